"""Synthetic places and music: audible, always the same, no two alike."""
from __future__ import annotations

from typing import Callable

import numpy as np
import pytest

from kws.corpus.ambience import music, places

RATE = 16_000


@pytest.mark.parametrize("make", [places, music])
def test_sounds_are_audible_and_always_the_same(make: Callable[..., list[np.ndarray]]):
    first, second = make(RATE, 4, 3.0), make(RATE, 4, 3.0)
    assert len(first) == 4
    for sound, twin in zip(first, second):
        assert (sound.dtype, len(sound)) == (np.float32, 3 * RATE) and np.array_equal(sound, twin)
        assert np.abs(sound).max() == pytest.approx(0.4) and np.isfinite(sound).all()
    assert (np.abs(np.corrcoef(first)) > 0.5).sum() == len(first)
