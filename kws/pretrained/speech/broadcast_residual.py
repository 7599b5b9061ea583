"""The published baseline: a broadcast-residual CNN over log-mel spectrograms.

After B. Kim, S. Chang, J. Lee, D. Sung, "Broadcasted Residual Learning for Efficient Keyword Spotting",
Interspeech 2021 (arXiv:2106.04140): 2-D depthwise convolutions over frequency, 1-D depthwise convolutions over time
on the frequency average, the latter broadcast back over frequency. Its sub-spectral normalisation is from S. Chang
et al., "SubSpectral Normalization for Neural Audio Data Processing", ICASSP 2021 (arXiv:2103.13620).
"""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import torch
from torch import nn


class SubSpectralNorm(nn.Module):
    """Batch normalisation with statistics and affine weights of their own for each of `sub_bands` frequency bands."""

    def __init__(self, channels: int, sub_bands: int) -> None:
        super().__init__()
        self.sub_bands = sub_bands
        self.norm = nn.BatchNorm2d(channels * sub_bands)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, K, M, F] -> same; `sub_bands` divides M."""
        batch, channels, mels, frames = inputs.shape
        bands = inputs.reshape(batch, channels * self.sub_bands, mels // self.sub_bands, frames)
        return self.norm(bands).reshape(batch, channels, mels, frames)


class BroadcastBlock(nn.Module):
    """One broadcast-residual block (paper, section 3.2): `y = relu(x + f2(x) + broadcast(f1(mean over M of f2(x))))`.

    A transition block (the first of a stage) changes channels or mel resolution and so has no identity path.

    Args:
        in_channels: K of the input.
        channels: K of the output.
        stride: (mel, frame) stride; only a transition block may have one.
        kernel: frames that the temporal depthwise convolution sees.
        dilation: of the temporal convolution, in frames.
        sub_bands: bands of the sub-spectral normalisation.
        dropout: probability of dropping a whole channel of f1.
        transition: whether the block starts a stage.
    """

    def __init__(self, in_channels: int, channels: int, stride: tuple[int, int], kernel: int, dilation: int,
                 sub_bands: int, dropout: float, transition: bool) -> None:
        super().__init__()
        self.transition = transition
        pointwise = [nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        self.f2 = nn.Sequential(
            *(pointwise if transition else []),
            nn.Conv2d(channels, channels, (3, 1), stride=stride, padding=(1, 0), groups=channels, bias=False),
            SubSpectralNorm(channels, sub_bands))
        self.f1 = nn.Sequential(
            nn.Conv2d(channels, channels, (1, kernel), padding=(0, dilation * (kernel // 2)), dilation=(1, dilation),
                      groups=channels, bias=False),
            nn.BatchNorm2d(channels), nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False), nn.Dropout2d(dropout))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, K, M, F] -> [B, K', M', F']."""
        spectral = self.f2(inputs)
        temporal = self.f1(spectral.mean(dim=2, keepdim=True))
        outputs = spectral + temporal
        return torch.relu(outputs if self.transition else outputs + inputs)


class BroadcastResidualNetwork(nn.Module):
    """Stem, stages of broadcast-residual blocks, head.

    Args:
        num_labels: C.
        num_mels: M of the input.
        stem: `channels`, `kernel` and `stride` as (mel, frame).
        stages: each `channels`, `blocks`, `stride` as (mel, frame), `kernel` and `dilation` in frames.
        head: `channels`, `kernel` of the depthwise convolution that spans all remaining mel bins' neighbourhood.
        sub_bands: bands of the sub-spectral normalisation; divides the mel bins of every stage.
        dropout: of whole channels, in every block.

    Raises:
        ValueError: if `sub_bands` does not divide the mel bins of a stage or the head's kernel does not fit them.
    """

    def __init__(self, num_labels: int, num_mels: int, stem: Mapping[str, Any], stages: Sequence[Mapping[str, Any]],
                 head: Mapping[str, Any], sub_bands: int, dropout: float) -> None:
        super().__init__()
        kernel: tuple[int, int] = tuple(stem["kernel"])
        stride: tuple[int, int] = tuple(stem["stride"])
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem["channels"], kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2), bias=False),
            nn.BatchNorm2d(stem["channels"]), nn.ReLU())
        mels = _halved(num_mels, stride[0])
        channels, blocks = stem["channels"], []
        for number, stage in enumerate(stages):
            mels = _halved(mels, stage["stride"][0])
            if mels % sub_bands:
                raise ValueError(f"stages[{number}]: {mels} mel bins remain; sub_bands = {sub_bands} must divide them")
            for index in range(stage["blocks"]):
                blocks.append(BroadcastBlock(
                    channels, stage["channels"], tuple(stage["stride"]) if index == 0 else (1, 1), stage["kernel"],
                    stage["dilation"], sub_bands, dropout, transition=index == 0))
                channels = stage["channels"]
        self.stages = nn.Sequential(*blocks)
        self.head = _build_head(channels, mels, head, num_labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, 1, M, F] log-mel energies -> [B, C] logits."""
        return self.head(self.stages(self.stem(features))).flatten(1)


def _build_head(in_channels: int, mels: int, head: Mapping[str, Any], num_labels: int) -> nn.Sequential:
    """Depthwise over mel and time, wide pointwise, average over what is left, classify (paper, table 1)."""
    if head["kernel"] > mels:
        raise ValueError(f"head.kernel = {head['kernel']} spans more than the {mels} mel bins that remain")
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, head["kernel"], padding=(0, head["kernel"] // 2), groups=in_channels,
                  bias=False),
        nn.Conv2d(in_channels, head["channels"], 1, bias=False), nn.BatchNorm2d(head["channels"]), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(head["channels"], num_labels, 1))


def _halved(size: int, stride: int) -> int:
    """Length after an odd, padded convolution with this stride."""
    return (size - 1) // stride + 1
