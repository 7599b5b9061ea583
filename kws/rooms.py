"""Rooms: what a microphone some way off hears of a word, batched over clips."""
from __future__ import annotations

import torch

_FIRST_WALL_SECONDS = 0.0025  # after the direct sound: no wall is nearer than a forearm
_RESPONSE_SECONDS = 0.5


def room_responses(seconds: torch.Tensor, direct_db: torch.Tensor, sample_rate: int,
                   generator: torch.Generator) -> torch.Tensor:
    """Draw the impulse responses of rooms: the direct sound, then noise that decays exponentially.

    The model is J.-D. Polack's, "La transmission de l'énergie sonore dans les salles" (1988), for all of the tail.

    Args:
        seconds: [B] reverberation times, after which the tail has fallen by 60 dB.
        direct_db: [B] level of the direct sound over that of the whole tail.
        sample_rate: Hz.
        generator: on the CPU.
    Returns:
        [B, R] float32, R half a second; the direct sound is 1, at the first sample.
    """
    times = torch.arange(round(_RESPONSE_SECONDS * sample_rate)) / sample_rate
    responses = torch.randn(len(seconds), len(times), generator=generator) * 10 ** (-3 * times / seconds[:, None])
    responses[:, :round(_FIRST_WALL_SECONDS * sample_rate)] = 0.0
    tail = responses.square().sum(dim=1).sqrt()
    responses *= (10 ** (-direct_db / 20) / tail)[:, None]
    responses[:, 0] = 1.0
    return responses


def reverberate(waveforms: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    """Convolve each clip with the response of its room.

    Args:
        waveforms: [B, T].
        responses: [B, R].
    Returns:
        [B, T]; what sounds on after the window is lost.
    """
    length = waveforms.shape[1] + responses.shape[1]  # no sample wraps round to the start
    spectra = torch.fft.rfft(waveforms, length) * torch.fft.rfft(responses, length)
    return torch.fft.irfft(spectra, length)[:, :waveforms.shape[1]]
