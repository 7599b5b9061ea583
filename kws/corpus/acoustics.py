"""Simulated rooms, microphones and noise: turns the output of a speech engine into a recording.

The corpus must be the same bytes whatever the processor. So: float64 throughout; additions and
multiplications in an order that does not depend on vector units (no BLAS); one rounding to 16 bits at the
very end, which swallows the last-bit differences of sines and powers; and for everything random a generator
of its own, seeded by its name, so that nothing depends on what was made before.
"""
from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Sequence

import numpy as np
import soundfile
from scipy import signal

from kws.model.window import FULL_SCALE

SAMPLE_RATE = 16_000  # Hz, of everything made here
NOISES = ("white_noise", "pink_noise", "brown_noise", "mains_hum", "babble", "clicks")
_SILENT = 0.01  # a word whose peak is lower was not said: engines answer '' with a faint hiss
_TRIM = 0.01  # times the peak: what is lower, before and after a word, is the engine's silence
_MARGIN, _FADE_IN, _FADE_OUT = 160, 48, 240  # samples: 10, 3 and 15 ms


def generator(*names: object) -> np.random.Generator:
    """Make the generator of random numbers that belongs to these names."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def resample(samples: bytes, up: int, down: int) -> np.ndarray:
    """Resample what an engine said; beside the true ratio, speed, pitch and formants shift together.

    Args:
        samples: int16.
        up, down: the ratio of the rates.
    Returns:
        [T] float64 in -1..1.
    """
    return signal.resample_poly(np.frombuffer(samples, np.int16) / FULL_SCALE, up, down)


def trim(waveform: np.ndarray) -> np.ndarray:
    """Trim the silence around a word and fade its ends, which engines cut abruptly.

    Args:
        waveform: [T] in -1..1.
    Returns:
        [T'] with T' <= T; [0] if nothing is audible.
    """
    envelope = np.abs(waveform)
    peak = envelope.max(initial=0.0)
    if peak < _SILENT:
        return waveform[:0]
    loud = np.flatnonzero(envelope > _TRIM * peak)
    word = waveform[max(loud[0] - _MARGIN, 0):loud[-1] + 1 + _MARGIN].copy()
    word[:_FADE_IN] *= np.arange(len(word[:_FADE_IN])) / _FADE_IN
    word[-_FADE_OUT:] *= np.arange(len(word[-_FADE_OUT:]))[::-1] / _FADE_OUT
    return word


def room_response(rng: np.random.Generator) -> np.ndarray:
    """Draw a room and a microphone: a direct sound, a decaying tail, then a simple band-pass.

    Returns:
        [R] float64, R <= 0.25 s.
    """
    seconds = rng.uniform(0.08, 0.40)  # until the tail has fallen by 60 dB: a furnished room .. a bare one
    length = round(0.6 * seconds * SAMPLE_RATE)
    decay = np.multiply.accumulate(np.full(length, 10 ** (-3 / (seconds * SAMPLE_RATE))))
    tail = gaussian_noise(rng, length) * decay
    gap = rng.integers(40, 160)  # samples, 2.5..10 ms: the first wall is metres away
    response = np.zeros(gap + length)
    response[0] = 1.0
    response[gap:] += rng.uniform(0.01, 0.08) * tail
    high_pass, low_pass = 1 - rng.uniform(0.01, 0.12), rng.uniform(0.0, 0.5)
    response = signal.lfilter([1.0, -1.0], [1.0, -high_pass], response)
    return signal.lfilter([1.0 - low_pass], [1.0, -low_pass], response)


def record(word: np.ndarray, response: np.ndarray, hiss: float, rng: np.random.Generator) -> np.ndarray:
    """Record a word in a room: draw the length of the clip, where the word is, how loud it and the noise are.

    Args:
        word: [T] float64, trimmed, T <= 1 s.
        response: [R] float64 of the room.
        hiss: 0..1, colour of the noise floor: 0 is white, near 1 is brown.
        rng: the generator of this clip.
    Returns:
        [T'] int16, 0.4..1 s; the whole word is in it, its reverberation as far as the clip goes.
    """
    shortest = max(len(word), round(0.4 * SAMPLE_RATE))
    # As in Speech Commands: most recordings last exactly one second, some less.
    length = SAMPLE_RATE if rng.random() < 0.85 else int(rng.integers(shortest, SAMPLE_RATE, endpoint=True))
    start = math.floor((rng.random() + rng.random()) / 2 * (length - len(word) + 1))  # the middle more often
    wet = signal.fftconvolve(word, response)[:length - start]
    return _over_hiss(wet, start, length, hiss, rng)


def record_talk(sentences: Sequence[np.ndarray], response: np.ndarray, hiss: float,
                rng: np.random.Generator) -> np.ndarray:
    """Record sentences in a room, one after the other, with pauses of 0.2 to 0.7 s around them.

    Args:
        sentences: [T] float64 each, trimmed.
        response, hiss, rng: as for `record`.
    Returns:
        [T'] int16.
    """
    parts = [part for sentence in sentences for part in (_pause(rng), sentence)]
    wet = signal.fftconvolve(np.concatenate([*parts, _pause(rng)]), response)
    return _over_hiss(wet, 0, len(wet), hiss, rng)


def _pause(rng: np.random.Generator) -> np.ndarray:
    return np.zeros(rng.integers(SAMPLE_RATE // 5, 7 * SAMPLE_RATE // 10))


def _over_hiss(wet: np.ndarray, start: int, length: int, hiss: float, rng: np.random.Generator) -> np.ndarray:
    """[T] float64, from `start` on over a noise floor -> [length] int16; draws how loud both are."""
    peak = 10 ** rng.uniform(-1.2, -0.1)  # -24..-2 dB of full scale
    floor = signal.lfilter([1.0], [1.0, -hiss], gaussian_noise(rng, length))
    sound = _to_peak(floor, peak * 10 ** rng.uniform(-3.0, -1.7))  # 34..60 dB below the voice, peak to peak
    sound[start:start + len(wet)] += _to_peak(wet, peak)
    return to_int16(sound)


def gaussian_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """[length] white noise, nearly Gaussian: the sum of four uniform numbers needs no logarithm or sine."""
    return rng.random(length) + rng.random(length) + rng.random(length) + rng.random(length) - 2.0


def background_noises(babblers: Sequence[np.ndarray], seconds: float,
                      rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Make the six recordings of `_background_noise_`.

    Args:
        babblers: [T] float64 each, one voice that talks and talks.
        seconds: length of each recording.
        rng: the generator of the noises.
    Returns:
        each of NOISES -> [seconds * SAMPLE_RATE] int16.
    """
    length = round(seconds * SAMPLE_RATE)
    white = gaussian_noise(rng, length)
    # J. O. Smith, Spectral Audio Signal Processing, "Example: Synthesis of 1/F Noise (Pink Noise)".
    pink = signal.lfilter([0.049922035, -0.095993537, 0.050612699, -0.004408786],
                          [1, -2.494956002, 2.017265875, -0.522189400], gaussian_noise(rng, length))
    brown = signal.lfilter([1.0], [1.0, -0.999], gaussian_noise(rng, length))
    recordings = (white, pink, brown, _hum(rng, length), _babble(babblers, rng, length), _clicks(rng, length))
    peaks = (0.3, 0.4, 0.4, 0.2, 0.5, 0.7)  # about equally loud, but for the clicks, which are mostly silence
    return {name: to_int16(_to_peak(*pair)) for name, *pair in zip(NOISES, recordings, peaks)}


def _hum(rng: np.random.Generator, length: int) -> np.ndarray:
    """50 Hz and its harmonics, over a faint noise."""
    period = SAMPLE_RATE // 50
    steps = [2 * math.pi * n / period for n in range(period)]
    wave = [sum(math.sin(k * step + k * k) / k for k in range(1, 13)) for step in steps]
    return np.resize(wave, length) + 0.02 * gaussian_noise(rng, length)


def _babble(babblers: Sequence[np.ndarray], rng: np.random.Generator, length: int) -> np.ndarray:
    """Several voices at once in one room, each starting in the middle of a sentence."""
    talk = np.zeros(length)
    for voice in babblers:
        talk += np.resize(np.roll(_to_peak(voice, 1.0), rng.integers(len(voice))), length)
    return signal.fftconvolve(talk, room_response(rng))[:length]


def _clicks(rng: np.random.Generator, length: int) -> np.ndarray:
    """Three kinds of short damped ringing, each kind struck about once a second, over a faint noise."""
    sound = 0.003 * gaussian_noise(rng, length)
    for frequency_hz, damping in ((900.0, 0.985), (2300.0, 0.97), (4100.0, 0.95)):
        strikes = np.zeros(length)
        count = length // SAMPLE_RATE + 1
        strikes[rng.integers(length, size=count)] = rng.uniform(0.1, 1.0, count)
        angle = 2 * math.pi * frequency_hz / SAMPLE_RATE
        sound += signal.lfilter([1.0], [1.0, -2 * damping * math.cos(angle), damping * damping], strikes)
    return sound


def _to_peak(waveform: np.ndarray, peak: float) -> np.ndarray:
    return waveform * (peak / np.abs(waveform).max())


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """[T] float64 in -1..1 -> [T] int16: the one rounding."""
    return np.rint(waveform * 32767.0).astype(np.int16)


def write(path: Path, samples: np.ndarray) -> None:
    """Write [T] int16 as a WAV file, or FLAC where the name says so, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # FLAC's least effort uses integers only; more of it predicts in floating point, as each processor can.
    effort = 0.0 if path.suffix == ".flac" else None
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", compression_level=effort)
