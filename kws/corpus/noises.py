"""Synthetic background sounds: hums, tones, clicks, whistles, fans, hisses and rumbles.

A handful of recordings of background noise do not teach what silence is: a network that has heard only those takes the
hum of a transformer or a beep for a keyword. These are heard in training only, besides the recordings.
"""
from __future__ import annotations

from typing import Callable

import numpy as np
from scipy import signal

_PEAK = 0.5
_VARIANTS = 5  # of each kind, one after the other


def sounds(sample_rate: int, seconds: float = 20.0) -> list[np.ndarray]:
    """Make the sounds, always the same ones.

    Args:
        sample_rate: Hz.
        seconds: length of each.
    Returns:
        one of each kind, [T] float32 in -0.5..0.5.
    """
    return [_variants(kind, number, sample_rate, seconds / _VARIANTS)
            for number, kind in enumerate((_hiss, _fan, _hum, _tones, _whistle, _clicks, _rumble))]


def _variants(kind: Callable[[np.random.Generator, np.ndarray], np.ndarray], number: int, sample_rate: int,
              seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    made = [kind(np.random.default_rng([number, variant]), times) for variant in range(_VARIANTS)]
    return np.concatenate([sound * (_PEAK / np.abs(sound).max()) for sound in made]).astype(np.float32)


def _hiss(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Noise of any colour from bright to dull."""
    return signal.lfilter([1.0], [1.0, -rng.uniform(-0.5, 0.95)], rng.standard_normal(len(times)))


def _fan(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Noise that swells and fades a few times a second."""
    return _hiss(rng, times) * (1.0 + 0.9 * np.sin(2 * np.pi * rng.uniform(1, 20) * times))


def _hum(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A buzz: a low note and its harmonics, over a faint hiss."""
    note, decay = rng.uniform(45, 130), rng.uniform(0.5, 1.5)
    phases = rng.uniform(0, 2 * np.pi, 20)
    harmonics = (np.sin(2 * np.pi * note * k * times + phases[k - 1]) / k ** decay for k in range(1, 21))
    return sum(harmonics) + 0.02 * rng.standard_normal(len(times))


def _tones(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Beeps: every quarter of a second another note, or none."""
    steps = (times * 4).astype(int)
    notes = rng.uniform(200, 4000, steps.max() + 1) * (rng.random(steps.max() + 1) < 0.6)
    phase = 2 * np.pi * np.cumsum(notes[steps]) * (times[1] - times[0])
    return np.sin(phase) * (notes[steps] > 0) + 0.003 * rng.standard_normal(len(times))


def _whistle(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A siren: one note that rises and falls."""
    notes = rng.uniform(600, 1500) * 2 ** np.sin(2 * np.pi * rng.uniform(0.2, 1.0) * times)
    return np.sin(2 * np.pi * np.cumsum(notes) * (times[1] - times[0])) + 0.01 * rng.standard_normal(len(times))


def _clicks(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Knocks and clicks, each with a ring of its own, a few a second, over a faint hiss."""
    sound = 0.003 * rng.standard_normal(len(times))
    for _ in range(4):
        angle, damping = rng.uniform(0.02, 2.5), rng.uniform(0.95, 0.995)
        strikes = rng.random(len(times)) * (rng.random(len(times)) < 1.0 * (times[1] - times[0]))
        rings = signal.lfilter([1.0], [1.0, -2 * damping * np.cos(angle), damping ** 2], strikes)
        sound += rings / max(np.abs(rings).max(), 1.0)  # as loud as the others, or one would drown them
    return sound


def _rumble(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Wind, traffic, a hand on the microphone: low noise that varies within a quarter of a second."""
    low = signal.lfilter([1.0], [1.0, -rng.uniform(0.98, 0.999)], rng.standard_normal(len(times)))
    levels = rng.random(int(4 * times[-1]) + 2)
    return low * np.interp(times, np.arange(len(levels)) / 4, levels)
