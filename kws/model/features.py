"""The front end: batched log-mel energies, computed by torchaudio inside the model."""
from __future__ import annotations

import math

import torch
from torch import nn

try:
    from torchaudio import transforms
except OSError as error:
    raise ImportError("torchaudio's CUDA extension does not load beside this torch; "
                      "`python scripts/repair_torchaudio.py` sets it aside") from error


class LogMel(nn.Module):
    """Natural logarithm of mel energies (HTK mel scale, power spectrum, Hann window, zero-padded edges).

    Args:
        sample_rate: Hz.
        n_fft: samples of the Fourier transform.
        window_ms: length of the Hann window, at most `n_fft` samples.
        hop_ms: step from frame to frame.
        num_mels: M.
        fmin_hz: lower edge of the lowest mel bin.
        fmax_hz: upper edge of the highest mel bin.
        log_offset: added before the logarithm; silence becomes log(log_offset).
    """

    def __init__(self, sample_rate: int, n_fft: int, window_ms: float, hop_ms: float, num_mels: int, fmin_hz: float,
                 fmax_hz: float, log_offset: float) -> None:
        super().__init__()
        self.log_offset = log_offset
        with torch.device("cpu"):  # `from_pretrained` builds on the meta device, where torchaudio cannot
            self.mel = transforms.MelSpectrogram(
                sample_rate=sample_rate, n_fft=n_fft, win_length=round(window_ms * sample_rate / 1000),
                hop_length=round(hop_ms * sample_rate / 1000), f_min=fmin_hz, f_max=fmax_hz, n_mels=num_mels,
                power=2.0, center=True, pad_mode="constant", mel_scale="htk", norm=None)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] float32 in -1..1 -> [B, 1, M, F], F = 1 + (T - n_fft % 2) // hop; no clip depends on its batch."""
        return torch.log(self.mel(waveforms) + self.log_offset).unsqueeze(1)


class FoldedLogMel(nn.Module):
    """The same energies as a `LogMel` by two products with constant matrices: what an exported model computes.

    A power spectrum does not depend on where time zero lies, and with it in the middle of the window, which is
    symmetric, the real part needs only the sums x(t) + x(-t) and the imaginary part only the differences x(t) - x(-t).
    Folded like this, half a window of cosines and half a window of sines are the whole transform. It takes inference
    engines a quarter of the time of their Fourier transform, which is not made for 512 samples.

    Args:
        log_mel: the front end to reproduce.

    Attributes:
        times: [T, 1] of the half window, in half samples.
        bins: [K] of the transform that the mel filters hear.
        circle: [2, 2 * n_fft] float64, cosines and sines of all angles there are: a product of both counts them.
        weights: [T, 1] float64, of the window.
    """

    cosines: torch.Tensor
    sines: torch.Tensor
    filters: torch.Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        spectrogram, filters = log_mel.mel.spectrogram, log_mel.mel.mel_scale.fb
        self.n_fft, self.length, self.hop = spectrogram.n_fft, spectrogram.win_length, spectrogram.hop_length
        self.reach, self.log_offset = self.length // 2, log_mel.log_offset
        heard = torch.nonzero(filters.sum(dim=1)).flatten()
        first, last = int(heard[0]), int(heard[-1])
        self.times = 2 * torch.arange(self.length - self.reach, self.length)[:, None] - self.length
        self.bins = torch.arange(first, last + 1)
        angles = math.pi / self.n_fft * torch.arange(2 * self.n_fft, dtype=torch.float64)
        self.circle = torch.stack([angles.cos(), angles.sin()])
        window = spectrogram.window.double()[self.length - self.reach:, None]
        self.weights = window / (1 + (self.times == 0))  # x(0) + x(0)
        cosines, sines = (self.weights * self.circle[:, self.times * self.bins % (2 * self.n_fft)]).float()
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)
        self.register_buffer("filters", filters[first:last + 1].clone())

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 1, M, F], as `LogMel` does."""
        num_samples, padding = waveforms.shape[1], self.n_fft // 2
        frames = 1 + (num_samples + 2 * padding - self.n_fft) // self.hop
        lead = padding - (self.n_fft - self.length) // 2
        blocks = frames - 1 + math.ceil(self.length / self.hop)
        return self.of_whole_windows(nn.functional.pad(
            waveforms, (lead, blocks * self.hop - lead - num_samples)))  # below 0 it crops

    def of_whole_windows(self, samples: torch.Tensor) -> torch.Tensor:
        """[B, N * hop] -> [B, 1, M, F] of the windows that lie inside, one a hop, the first one at sample 0."""
        # Windows are neighbouring blocks of one hop, side by side.
        hops = samples.reshape(samples.shape[0], -1, self.hop)
        blocks_per_window = math.ceil(self.length / self.hop)
        frames = hops.shape[1] - blocks_per_window + 1
        windows = torch.cat([hops[:, i:i + frames] for i in range(blocks_per_window)], dim=2)[:, :, :self.length]
        after = windows[:, :, self.length - self.reach:]
        before = windows[:, :, 1:self.reach + 1].flip(2)  # sample 0 of a Hann window weighs nothing and has no mirror
        real, imaginary = (after + before) @ self.cosines, (after - before) @ self.sines
        energies = (real * real + imaginary * imaginary) @ self.filters  # ** 2 is slower in ONNX Runtime
        return torch.log(energies + self.log_offset).transpose(1, 2).unsqueeze(1)
