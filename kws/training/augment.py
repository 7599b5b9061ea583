"""Variation for training: batched over clips, drawn from one generator, equal for equal seeds on every device.

All draws are a few numbers per clip and are made on the CPU, so the same seed gives the same augmentation wherever
the waveforms live; the work on samples is batched tensor arithmetic there.
"""
from __future__ import annotations

import math
from typing import Callable, Optional

import torch
from torch.nn import functional as F

from kws.data.noise_bank import mix_noise

_CLIPS_AT_A_TIME = 16  # their spectra stay in the processor's caches: twice as fast as a hundred at once
_BLOCK = 100  # samples, so that a speed is a whole percent
_ZERO_CROSSINGS = 24  # of the sinc, each way: only the top tenth of the band is damped


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> torch.Tensor:
    """Draw [count] numbers from low..high."""
    return low + (high - low) * torch.rand(count, generator=generator)


def time_warp(waveforms: torch.Tensor, speed: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Play each clip at its own speed (rate and pitch together) and moved in time, by band-limited interpolation.

    Every sample is a sum of the recording's samples around its place, weighted by a sinc under a Hann window
    (J. O. Smith, "Digital Audio Resampling", ccrma.stanford.edu/~jos/resample); a clip that is sped up is low-passed
    on the way, so that nothing folds back. At a speed in whole percent the weights repeat after `_BLOCK` samples, so
    they are one matrix per clip, and a clip is one product of matrices.

    Args:
        waveforms: [B, T].
        speed: [B], 1.1 plays 10 % faster, about the middle of the window; rounded to whole percent.
        shift: [B], samples by which the clip comes later; what leaves the window is lost, what enters is zero.
    Returns:
        [B, T].
    """
    (count, num_samples), device = waveforms.shape, waveforms.device
    advance = (speed * _BLOCK).round().double()  # source samples per block of output
    ratio, middle = advance / _BLOCK, (num_samples - 1) / 2
    first = middle - (middle + shift.double()) * ratio  # where in the source the first sample of the output lies
    reach = math.ceil(_ZERO_CROSSINGS * max(1.0, float(ratio.max())))
    width = math.ceil(float(advance.max())) + 2 * reach

    places = (first - first.floor())[:, None] + torch.arange(_BLOCK) * ratio[:, None]  # [B, block]
    taps = places.long()[..., None] + torch.arange(2 * reach)  # [B, block, taps], from `reach - 1` samples before
    offsets = (taps - reach + 1 - places[..., None]).float().to(device)
    weights = torch.zeros(count, _BLOCK, width, device=device).scatter_(
        2, taps.to(device), _windowed_sinc(offsets, (1 / ratio).clamp(max=1.0).float().to(device)[:, None, None]))
    starts = first.floor()[:, None] - reach + 1 + advance[:, None] * torch.arange(-(-num_samples // _BLOCK))
    rows = (starts + width).clamp(0, num_samples + width).long().to(device)  # beyond, there are but zeros
    blocks = F.pad(waveforms, (width, width)).unfold(1, width, 1)[torch.arange(count, device=device)[:, None], rows]
    return (blocks @ weights.mT).flatten(1)[:, :num_samples]


def _windowed_sinc(offsets: torch.Tensor, cutoff: torch.Tensor) -> torch.Tensor:
    """Weigh samples by their distance in samples; `cutoff` is the share of the band that passes."""
    scaled = offsets * cutoff
    window = 0.5 + 0.5 * (scaled * (math.pi / _ZERO_CROSSINGS)).clamp_(-math.pi, math.pi).cos_()
    return cutoff * torch.sinc(scaled) * window


def tilt_spectrum(waveforms: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
    """Brighten or dull each clip by the first-order filter `x[t] - tilt x[t-1]`, as microphones and rooms do.

    Args:
        waveforms: [B, T].
        tilt: [B], -1..1; 0.5 is 9.5 dB more at half the sample rate than at 0 Hz, -0.5 as much less.
    Returns:
        [B, T].
    """
    return waveforms - tilt[:, None] * F.pad(waveforms[:, :-1], (1, 0))


def mask_bands(features: torch.Tensor, first: torch.Tensor, width: torch.Tensor, dim: int) -> torch.Tensor:
    """Replace bands of each spectrogram by that spectrogram's mean (SpecAugment, arXiv:1904.08779, section 2).

    Args:
        features: [B, 1, M, F].
        first: [B, masks] index of the first row or column of a band.
        width: [B, masks] how many; 0 masks nothing.
        dim: 2 masks mel bins, 3 masks frames.
    Returns:
        [B, 1, M, F].
    """
    positions = torch.arange(features.shape[dim], device=features.device)
    inside = (positions >= first[..., None]) & (positions < (first + width)[..., None])
    masked = inside.any(dim=1)[:, None, :, None] if dim == 2 else inside.any(dim=1)[:, None, None, :]
    return torch.where(masked, features.mean(dim=(1, 2, 3), keepdim=True), features)


def mask_random_bands(features: torch.Tensor, dim: int, masks: int, widest: int,
                      generator: torch.Generator) -> torch.Tensor:
    """Mask bands of each spectrogram, [B, 1, M, F], at random places and of random widths up to `widest`."""
    shape, size = (len(features), masks), features.shape[dim]
    width = torch.randint(min(widest, size) + 1, shape, generator=generator)
    first = (torch.rand(shape, generator=generator) * (size - width + 1)).long()
    return mask_bands(features, first.to(features.device), width.to(features.device), dim)


class Augmenter:
    """The random variation of training clips; its keyword arguments are the `augment` section of a configuration.

    Args:
        sample_rate: Hz.
        shift_ms: largest move in time, each way.
        speed: largest relative change of speed, each way.
        tilt: largest change of colour, each way, see `tilt_spectrum`.
        gain_db: range of the change of level.
        noise_probability: share of clips that noise is mixed into.
        snr_db: range of the speech's level over that noise.
        time_masks, time_mask_frames: SpecAugment bands over time and their greatest width in frames.
        frequency_masks, frequency_mask_bins: likewise over mel bins.
    """

    def __init__(self, sample_rate: int, shift_ms: float, speed: float, tilt: float, gain_db: tuple[float, float],
                 noise_probability: float, snr_db: tuple[float, float], time_masks: int, time_mask_frames: int,
                 frequency_masks: int, frequency_mask_bins: int) -> None:
        self.shift = shift_ms * sample_rate / 1000
        self.speed = speed
        self.tilt = tilt
        self.gain_db = gain_db
        self.noise_probability = noise_probability
        self.snr_db = snr_db
        self.masks = ((3, time_masks, time_mask_frames), (2, frequency_masks, frequency_mask_bins))

    def spectrograms(self, waveforms: torch.Tensor, noise: Optional[Callable[[torch.Generator, int], torch.Tensor]],
                     log_mel: Callable[[torch.Tensor], torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """Vary clips, and what is seen of them.

        Args:
            waveforms: [B, T] float32.
            noise: draws [count, T] backgrounds to mix in; None mixes nothing.
            log_mel: [B, T] -> [B, 1, M, F].
            generator: on the CPU.
        Returns:
            [B, 1, M, F].
        """
        return torch.cat([
            self.features(log_mel(self.waveforms(part, noise and noise(generator, len(part)), generator)), generator)
            for part in waveforms.split(_CLIPS_AT_A_TIME)])

    def waveforms(self, waveforms: torch.Tensor, noise: torch.Tensor | None,
                  generator: torch.Generator) -> torch.Tensor:
        """Vary speed, position, colour, background and level of clips.

        Args:
            waveforms: [B, T] float32.
            noise: [B, T] background to mix in, or None.
            generator: on the CPU.
        Returns:
            [B, T], within -1..1.
        """
        count, device = len(waveforms), waveforms.device
        speed = 1 + uniform(generator, count, -self.speed, self.speed)
        shift = uniform(generator, count, -self.shift, self.shift)
        tilt = uniform(generator, count, -self.tilt, self.tilt)
        gain = 10 ** (uniform(generator, count, *self.gain_db) / 20)
        waveforms = tilt_spectrum(time_warp(waveforms, speed.to(device), shift.to(device)), tilt.to(device))
        if noise is not None:
            snr_db = uniform(generator, count, *self.snr_db)
            snr_db[torch.rand(count, generator=generator) >= self.noise_probability] = torch.inf
            waveforms = mix_noise(waveforms, noise, snr_db.to(device))
        return (waveforms * gain.to(device)[:, None]).clamp(-1.0, 1.0)

    def features(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Mask random bands of time and frequency: [B, 1, M, F] -> same."""
        for dim, masks, widest in self.masks:
            if masks and widest:
                features = mask_random_bands(features, dim, masks, widest, generator)
        return features
