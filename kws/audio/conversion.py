"""Running sound of any rate and number of channels to what a model hears, with nothing lost between blocks."""
from __future__ import annotations

import numpy as np
import soxr

from kws.audio.decode import CANCELLED

_FORGET = 0.9  # share of the powers so far that a block leaves, of 50 ms or more
_AUDIBLE = 1e-6  # power, -60 dBFS


class Converter:
    """Averages channels and resamples, block after block.

    Where channels cancel each other (a microphone wired in opposite phases), the loudest one is taken from then on.

    Args:
        rate: Hz, of the blocks.
        sample_rate: Hz, wanted.
    """

    def __init__(self, rate: int, sample_rate: int) -> None:
        self._stream = None
        if rate != sample_rate:
            self._stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        self._channel = -1  # -1: the average
        self._powers, self._average = np.zeros(1), 0.0

    def convert(self, block: np.ndarray) -> np.ndarray:
        """Take the next [T, channels] float32; return what of it is ready, [T'] float32 mono at the wanted rate."""
        mono = self._mono(block)
        return mono if self._stream is None else self._stream.resample_chunk(mono)

    def finish(self) -> np.ndarray:
        """End the sound; return what was still held back, [T'] float32."""
        rest = np.empty(0, dtype=np.float32)
        return rest if self._stream is None else self._stream.resample_chunk(rest, last=True)

    def _mono(self, block: np.ndarray) -> np.ndarray:
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        if self._channel < 0:
            average = block.mean(axis=1)
            self._watch(block, average)
            if self._channel < 0:
                return average
        return np.ascontiguousarray(block[:, self._channel])

    def _watch(self, block: np.ndarray, average: np.ndarray) -> None:
        """Choose a channel if the average lacks nearly all that unrelated channels would leave in it."""
        if not len(block):
            return
        self._powers = _FORGET * self._powers + block.var(axis=0, dtype=np.float64)
        self._average = _FORGET * self._average + float(average.var(dtype=np.float64))
        expected = float(self._powers.sum()) / block.shape[1] ** 2
        if expected > _AUDIBLE and self._average < (1 - CANCELLED) * expected:
            self._channel = int(self._powers.argmax())
