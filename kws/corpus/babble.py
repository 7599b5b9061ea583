"""Babble: clips of speech mixed until no word is intelligible.

Background recordings rarely contain babble, and a network not trained on it takes it for keywords.
"""
from __future__ import annotations

import numpy as np

from kws.model.window import FULL_SCALE

_VOICES = (5, 7, 9)  # how many talk at once, in each recording
_CLIPS = 60  # that one voice says, one after the other
_PEAK = 0.5
_QUIETEST = 1e-4  # RMS below which a clip counts as silent, and is not made louder


def crowds(waveforms: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Make babble of 5, 7 and 9 voices; the same clips give the same recordings.

    Args:
        waveforms: [N, T] int16.
        rows: [K] which of them are heard.
    Returns:
        [60 T] float32 in -0.5..0.5 each; none if there are no rows.
    """
    return [_crowd(waveforms, rows, voices) for voices in _VOICES] if len(rows) else []


def _crowd(waveforms: np.ndarray, rows: np.ndarray, voices: int) -> np.ndarray:
    rng = np.random.default_rng(voices)
    said = waveforms[rng.choice(rows, (voices, _CLIPS))] / np.float32(FULL_SCALE)
    loudness = np.sqrt(np.square(said).mean(axis=-1, keepdims=True))
    # Random start per voice, so that words do not line up.
    starts = rng.integers(waveforms.shape[1], size=voices)
    talk = (said / np.maximum(loudness, _QUIETEST)).reshape(voices, -1)
    together = sum(np.roll(voice, start) for voice, start in zip(talk, starts))
    return (together * (_PEAK / max(np.abs(together).max(), _QUIETEST))).astype(np.float32)
