"""A crowd that talks: clips of speech laid over each other until no word can be told from the rest.

Recordings of background noise rarely hold one, and a network that never heard a crowd takes it for keywords.
"""
from __future__ import annotations

import numpy as np

from kws.model.window import FULL_SCALE

_VOICES = (5, 7, 9)  # how many talk at once, in each recording
_CLIPS = 60  # that one voice says, one after the other
_PEAK = 0.5
_QUIETEST = 1e-4  # RMS below which a clip counts as silent, and is not made louder


def crowds(waveforms: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Make a recording of a small, a larger and a large crowd; always the same ones of the same clips.

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
    # Each voice begins where it likes: in step, all words would lie in the middle of their windows.
    starts = rng.integers(waveforms.shape[1], size=voices)
    talk = (said / np.maximum(loudness, _QUIETEST)).reshape(voices, -1)
    together = sum(np.roll(voice, start) for voice, start in zip(talk, starts))
    return (together * (_PEAK / max(np.abs(together).max(), _QUIETEST))).astype(np.float32)
