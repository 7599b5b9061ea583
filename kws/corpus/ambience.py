"""Synthetic places and synthetic music, to hear running sound in.

The few recordings of background noise that come with a data set are soon known by heart. A place here is noise of a
random colour that swells and fades, with drops, knocks and clatter in it; a piece of music is chords, a melody and a
beat of random instruments.
"""
from __future__ import annotations

import numpy as np
from scipy import signal

_PEAK = 0.4
_OCTAVES = 9  # of a place's colour, up to half the sample rate
_BEATS, _HARMONICS = 64, 12
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # semitones: major, minor


def places(sample_rate: int, count: int = 40, seconds: float = 20.0) -> list[np.ndarray]:
    """Make places, always the same ones: [T] float32 in -0.4..0.4 each."""
    return [_to_peak(_place(np.random.default_rng([1, number]), sample_rate, seconds)) for number in range(count)]


def music(sample_rate: int, count: int = 24, seconds: float = 20.0) -> list[np.ndarray]:
    """Make pieces of music, always the same ones: [T] float32 in -0.4..0.4 each."""
    return [_to_peak(_piece(np.random.default_rng([2, number]), sample_rate, seconds)) for number in range(count)]


def _place(rng: np.random.Generator, sample_rate: int, seconds: float) -> np.ndarray:
    size = round(seconds * sample_rate)
    sound = _coloured(rng, size) * _swelling(rng, size, sample_rate)
    for _ in range(rng.integers(3)):
        events = _events(rng, size, sample_rate)
        sound = sound + events * (rng.uniform(0.3, 4) * sound.std() / max(events.std(), 1e-9))
    return sound


def _coloured(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise whose level goes up and down from octave to octave, and falls with the frequency on the whole."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    octaves = np.log2(np.maximum(np.arange(len(spectrum)), 1) / len(spectrum)) + _OCTAVES
    levels = rng.uniform(-6, 1) * np.arange(_OCTAVES + 1) + rng.uniform(-8, 8, _OCTAVES + 1)
    return np.fft.irfft(spectrum * 10 ** (np.interp(octaves, np.arange(_OCTAVES + 1), levels) / 20), size)


def _swelling(rng: np.random.Generator, size: int, sample_rate: int) -> np.ndarray:
    """A level that wanders by up to 20 dB, slowly as wind or fast as a machine."""
    points = int(size / sample_rate * 10 ** rng.uniform(-0.7, 1.0)) + 3
    levels = rng.uniform(-1, 0, points) * rng.uniform(0, 20)
    return 10 ** (np.interp(np.linspace(0, points - 1, size), np.arange(points), levels) / 20)


def _events(rng: np.random.Generator, size: int, sample_rate: int) -> np.ndarray:
    """Drops, knocks, clatter: strikes of random strength, each kind with two rings and a hiss of its own."""
    strikes = rng.exponential(size=size) * (rng.random(size) < 10 ** rng.uniform(-0.3, 2.3) / sample_rate)
    damping = 10 ** (-1 / (10 ** rng.uniform(-3, -1) * sample_rate))  # to a tenth in 1 to 100 ms
    sound = signal.lfilter([1.0], [1.0, -damping], strikes) * rng.standard_normal(size) * rng.uniform(0, 1)
    for angle in rng.uniform(0.05, 2.5, 2):
        sound = sound + signal.lfilter([np.sin(angle)], [1.0, -2 * damping * np.cos(angle), damping ** 2], strikes)
    return sound


def _piece(rng: np.random.Generator, sample_rate: int, seconds: float) -> np.ndarray:
    size, beat = round(seconds * sample_rate), seconds / _BEATS * rng.choice([0.5, 1.0, 1.5])
    sound, scale, root = np.zeros(size), _SCALES[rng.integers(2)], rng.integers(33, 57)
    for _ in range(rng.integers(1, 5)):
        sound += rng.uniform(0.2, 1) * _part(rng, sample_rate, size, beat, int(root + 12 * rng.integers(3)), scale)
    if rng.random() < 0.6:
        sound += rng.uniform(0.3, 1.5) * sound.std() * _beats(rng, sample_rate, size, beat)
    return sound


def _part(rng: np.random.Generator, sample_rate: int, size: int, beat: float, root: int,
          scale: tuple[int, ...]) -> np.ndarray:
    """One instrument: notes, or chords of three, of a timbre and length of its own."""
    step = beat * rng.choice([0.5, 1, 1, 2, 4])
    length = round(min(step * rng.uniform(0.8, 1.5), 2.5) * sample_rate)
    rolling, fading, attack = rng.uniform(0.7, 2), rng.choice([0.3, 2, 5, 9]), rng.uniform(0.003, 0.08)
    phases, odd, chord = rng.uniform(0, 6.3, _HARMONICS), rng.uniform(0.1, 1), rng.choice([1, 1, 3])
    times = np.arange(length) / sample_rate
    envelope = np.minimum(times / attack, 1) * np.exp(-times * fading) * np.minimum((times[-1] - times) / 0.02, 1)
    sound = np.zeros(size + length)
    for start in np.arange(0, size, round(step * sample_rate)):
        degree = rng.integers(7) + 2 * np.arange(chord)
        pitch = root + 12 * (degree // 7) + np.asarray(scale)[degree % 7]
        notes = 440 * 2 ** ((pitch[:, None] - 69) / 12) * np.arange(1, _HARMONICS + 1)  # [chord, harmonics]
        weights = np.arange(1, _HARMONICS + 1) ** -rolling * np.where(np.arange(_HARMONICS) % 2, odd, 1)
        audible = weights * (notes < 0.48 * sample_rate) * (rng.random() < 0.85)
        played = np.nonzero(audible)
        turns = (2 * np.pi * notes[played][:, None] * times + phases[played[1]][:, None]).astype(np.float32)
        sound[start:start + length] += audible[played] @ np.sin(turns) * envelope
    return sound[:size]


def _beats(rng: np.random.Generator, sample_rate: int, size: int, beat: float) -> np.ndarray:
    """A drum kit: a falling note, and two kinds of noise."""
    times = np.arange(round(0.3 * sample_rate)) / sample_rate
    noise = rng.standard_normal(len(times))
    kit = (np.sin(2 * np.pi * np.cumsum(50 + 150 * np.exp(-times * 30)) / sample_rate) * np.exp(-times * 12) * 1.5,
           noise * np.exp(-times * rng.uniform(10, 40)), np.diff(noise, append=0.0) * np.exp(-times * 50))
    sound = np.zeros(size + len(times))
    for start in np.arange(0, size, round(beat * sample_rate)):
        if rng.random() < 0.8:
            sound[start:start + len(times)] += rng.uniform(0.3, 1.2) * kit[rng.integers(3)]
    return sound[:size] / max(sound.std(), 1e-9)


def _to_peak(sound: np.ndarray) -> np.ndarray:
    return (sound * (_PEAK / max(np.abs(sound).max(), 1e-9))).astype(np.float32)
