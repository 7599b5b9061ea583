"""Our network, the folded-mel CNN over log-mel spectrograms, and the choice between it and the published baseline.

CPUs like few, dense products. So the mel axis is gone early: after a strided stem and perhaps some 2-D blocks, one
convolution spans all mel bins that are left, and the rest of the work is 1-D, over time, with the channels as vectors.
Convolving over time with mel bins as channels is the idea of S. Choi et al., "Temporal Convolution for Real-time
Keyword Spotting on Mobile Devices", Interspeech 2019 (TC-ResNet, arXiv:1904.03814); the depthwise-separable
convolutions are those of A. Howard et al., "MobileNets", 2017 (arXiv:1704.04861). A word is the same word said quietly,
so only what a spectrogram holds relative to its loudest point is looked at.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .broadcast_residual import BroadcastResidualNetwork


class SeparableBlock(nn.Module):
    """Depthwise convolution, then pointwise; `y = relu(x + f(x))` where the shape stays, else `relu(f(x))`.

    Args:
        in_channels: K of the input.
        channels: K' of the output.
        kernel: (mel, frame) size of the depthwise convolution, odd.
        stride: (mel, frame) of the depthwise convolution.
    """

    def __init__(self, in_channels: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.residual = in_channels == channels and stride == (1, 1)
        self.block = nn.Sequential(
            *_convolution(in_channels, in_channels, kernel, stride, groups=in_channels), nn.ReLU(),
            *_convolution(in_channels, channels, (1, 1)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, K, M, F] -> [B, K', M', F']."""
        outputs = self.block(inputs)
        return torch.relu(inputs + outputs if self.residual else outputs)


class UnitEmbedding(nn.Module):
    """An affine map to vectors of length 1, so that only their direction tells words apart.

    Args:
        in_channels: K of the input.
        channels: K' of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(in_channels, channels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., K] -> [..., K']."""
        return F.normalize(self.projection(inputs), dim=-1)


class FoldedMelNetwork(nn.Module):
    """Stem, spectral blocks, fold of the mel axis into channels, temporal blocks, average over time, classifier.

    Args:
        num_labels: C.
        num_mels: M of the input.
        stem: `channels`, `kernel` and `stride` as (mel, frame), of a dense convolution.
        spectral: 2-D depthwise-separable blocks of 3 x 3, each `channels` and `stride` as (mel, frame); may be none.
        temporal: `channels` that the mel axis is folded into, `blocks`, and `kernel` of each in frames.
        dropout: before the classifier.
        embedding: numbers of a `UnitEmbedding` that the classifier decides on; None: on the average itself.
    """

    def __init__(self, num_labels: int, num_mels: int, stem: Mapping[str, Any], spectral: Sequence[Mapping[str, Any]],
                 temporal: Mapping[str, Any], dropout: float, embedding: Optional[int] = None) -> None:
        super().__init__()
        channels, mels = stem["channels"], _strided(num_mels, stem["stride"][0])
        self.stem = nn.Sequential(
            *_convolution(1, channels, tuple(stem["kernel"]), tuple(stem["stride"])), nn.ReLU())
        blocks = []
        for block in spectral:
            blocks.append(SeparableBlock(channels, block["channels"], (3, 3), tuple(block["stride"])))
            channels, mels = block["channels"], _strided(mels, block["stride"][0])
        self.spectral = nn.Sequential(*blocks)
        width = temporal["channels"]
        self.fold = nn.Sequential(
            nn.Conv2d(channels, width, (mels, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.temporal = nn.Sequential(*(
            SeparableBlock(width, width, (1, temporal["kernel"]), (1, 1)) for _ in range(temporal["blocks"])))
        self.embedding = nn.Identity() if embedding is None else UnitEmbedding(width, embedding)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(embedding or width, num_labels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, 1, M, F] log-mel energies -> [B, C] logits."""
        return self.head(self.embed(features))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """[B, 1, M, F] log-mel energies -> [B, K], what the classifier decides on."""
        # Channels side by side in memory make a training step a third shorter. `contiguous()` would not do: with one
        # channel the features pass for that already, keep their strides, and every later layer follows them.
        outputs = relative_to_loudest(features).to(memory_format=torch.channels_last)
        return self.embedding(self.temporal(self.fold(self.spectral(self.stem(outputs)))).mean(dim=(2, 3)))


def relative_to_loudest(features: torch.Tensor) -> torch.Tensor:
    """Express each spectrogram relative to its loudest point, so that how loud a word was said is no matter.

    The mean instead would depend on how much of the window is silent, or was padded.

    Args:
        features: [B, 1, M, F] log-mel energies.
    Returns:
        [B, 1, M, F], at most 0.
    """
    return features - features.amax(dim=(1, 2, 3), keepdim=True)


def _convolution(in_channels: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1),
                 groups: int = 1) -> tuple[nn.Module, nn.Module]:
    """Make a padded convolution and its normalisation; `kernel` and `stride` as (mel, frame)."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return (nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(channels))


def _strided(size: int, stride: int) -> int:
    """Length after an odd, padded convolution with this stride."""
    return (size - 1) // stride + 1


_NETWORKS = {"folded-mel": FoldedMelNetwork, "broadcast-residual": BroadcastResidualNetwork}


def build_network(architecture: Mapping[str, Any], num_labels: int, num_mels: int) -> nn.Module:
    """Build the network an architecture file describes: [B, 1, M, F] -> [B, C].

    Args:
        architecture: `network`, the name of one, and the keyword arguments of its class.
        num_labels: C.
        num_mels: M.
    Raises:
        ValueError: for another name, and for sizes that do not fit each other.
    """
    sizes = dict(architecture)
    name = sizes.pop("network", None)
    if name not in _NETWORKS:
        raise ValueError(f"network: found {name!r}; expected one of {', '.join(_NETWORKS)}")
    return _NETWORKS[name](num_labels=num_labels, num_mels=num_mels, **sizes)
