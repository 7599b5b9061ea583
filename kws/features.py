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
        """[B, T] float32 in -1..1 -> [B, 1, M, F], F = 1 + T // hop samples. A clip never depends on its batch."""
        return torch.log(self.mel(waveforms) + self.log_offset).unsqueeze(1)


class ConvolvedLogMel(nn.Module):
    """The same energies as a `LogMel` by one strided convolution: what an exported model computes.

    A frame of the windowed Fourier transform is a product with cosines and sines, so all frames are one convolution;
    inference engines run it at more than twice the speed of their Fourier transform, which is not made for 512 samples.

    Args:
        log_mel: what to equal.
    """

    basis: torch.Tensor
    filters: torch.Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        spectrogram, filters = log_mel.mel.spectrogram, log_mel.mel.mel_scale.fb
        offset = (spectrogram.n_fft - spectrogram.win_length) // 2  # torch.stft centres the window in n_fft
        heard = torch.nonzero(filters.sum(dim=1)).flatten()
        first, last = int(heard[0]), int(heard[-1])
        samples = torch.arange(spectrogram.win_length, dtype=torch.float64) + offset
        angles = 2 * math.pi / spectrogram.n_fft * torch.arange(first, last + 1)[:, None] * samples
        basis = torch.cat([angles.cos(), angles.sin()]) * spectrogram.window.double()
        self.stride, self.padding = spectrogram.hop_length, spectrogram.n_fft // 2 - offset
        self.log_offset = log_mel.log_offset
        self.register_buffer("basis", basis.float().unsqueeze(1))
        self.register_buffer("filters", filters[first:last + 1].T.repeat(1, 2).unsqueeze(2))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 1, M, F], as `LogMel` does."""
        parts = nn.functional.conv1d(waveforms.unsqueeze(1), self.basis, stride=self.stride, padding=self.padding)
        energies = nn.functional.conv1d(parts.square(), self.filters)
        return torch.log(energies + self.log_offset).unsqueeze(1)
