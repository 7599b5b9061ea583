"""Background noise: the part of each recording that belongs to a split, and random windows from it."""
from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from kws.corpus.babble import crowds
from kws.corpus.noises import sounds
from kws.data.split import TESTING, TRAINING, VALIDATION
from kws.data.store import PreparedStore
from kws.model.window import FULL_SCALE

_QUIETEST = 1e-4  # RMS below which a clip counts as silent: noise is then mixed in as if it were this loud
# Each split hears its own part of every background recording, so that silence is held out as speech is.
PARTS = {TRAINING: (0.0, 0.8), VALIDATION: (0.8, 0.9), TESTING: (0.9, 1.0)}


class NoiseBank:
    """Background recordings from which windows are cut at random places; only what is drawn is read.

    Args:
        recordings: each [T'], float32, or int16 as a store has it (full scale is 32768); those shorter than a window
            are repeated to fill it.
        num_samples: T of a window.

    Raises:
        ValueError: if there is no recording, or an empty one.
    """

    def __init__(self, recordings: Sequence[np.ndarray], num_samples: int) -> None:
        if not recordings or min(len(recording) for recording in recordings) == 0:
            raise ValueError("no background noise to draw from")
        self.num_samples = num_samples
        self._windows = [sliding_window_view(_filled(recording, num_samples), num_samples) for recording in recordings]
        self._starts = torch.tensor([len(windows) for windows in self._windows])
        self._device = torch.device("cpu")

    @classmethod
    def for_split(cls, store: PreparedStore, split: str, speech: np.ndarray) -> NoiseBank | None:
        """Build the bank of a split from its parts of a store's recordings; for training, machines and crowds besides.

        Args:
            store: the prepared store.
            split: "training", "validation" or "testing".
            speech: [K] rows of the store's clips that the split may hear.
        Returns:
            the bank; None where there are no recordings.
        """
        recordings = noise_of_split(store, split)
        if not recordings:
            return None
        if split == TRAINING:
            recordings += sounds(store.sample_rate) + crowds(store.waveforms, speech)
        return cls(recordings, store.waveforms.shape[1])

    @classmethod
    def made_up(cls, store: PreparedStore, speech: np.ndarray) -> NoiseBank:
        """Build a bank of machines and crowds alone, where nobody recorded background noise."""
        return cls(sounds(store.sample_rate) + crowds(store.waveforms, speech), store.waveforms.shape[1])

    def draw(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """Cut [count, T] windows, float32; recordings are equally likely, and no window crosses from one to another."""
        return torch.from_numpy(self.cut(self.places(generator, count))).to(self._device)

    def places(self, generator: torch.Generator, count: int) -> np.ndarray:
        """Draw where to cut: [count, 2] int64, recording and first sample."""
        which = torch.randint(len(self._windows), (count,), generator=generator)
        offsets = torch.rand(count, generator=generator, dtype=torch.float64) * self._starts[which]
        return torch.stack([which, offsets.long()], dim=1).numpy()

    def cut(self, places: np.ndarray) -> np.ndarray:
        """[count, 2] from `places` -> [count, T] float32."""
        drawn = np.empty((len(places), self.num_samples), dtype=np.float32)
        for recording in np.unique(places[:, 0]):
            rows = np.flatnonzero(places[:, 0] == recording)
            windows = self._windows[recording][places[rows, 1]]
            drawn[rows] = windows / np.float32(FULL_SCALE) if windows.dtype == np.int16 else windows
        return drawn

    def to(self, device: torch.device) -> NoiseBank:
        """Have windows drawn onto a device, in place; the recordings stay where they are."""
        self._device = torch.device(device)
        return self


def noise_of_split(store: PreparedStore, split: str) -> list[np.ndarray]:
    """Cut the part of each of a store's recordings that belongs to a split: [T'] int16, T' >= 1."""
    begin, end = PARTS[split]
    parts = [noise[int(begin * len(noise)):int(end * len(noise))] for noise in store.noise.values()]
    return [part for part in parts if len(part)]


def _filled(recording: np.ndarray, num_samples: int) -> np.ndarray:
    return np.tile(recording, -(-num_samples // len(recording))) if len(recording) < num_samples else recording


def mix_noise(waveforms: torch.Tensor, noise: torch.Tensor, snr_db: torch.Tensor) -> torch.Tensor:
    """Add noise at a signal-to-noise ratio, measured as RMS over the whole window.

    Args:
        waveforms: [B, T].
        noise: [B, T].
        snr_db: [B]; infinity leaves a clip as it is.
    Returns:
        [B, T].
    """
    scale = _rms(waveforms) / _rms(noise) * 10 ** (-snr_db / 20)
    return waveforms + scale[:, None] * noise


def _rms(waveforms: torch.Tensor) -> torch.Tensor:
    """[B, T] -> [B], no less than that of a silent clip."""
    return waveforms.square().mean(dim=1).sqrt().clamp_min(_QUIETEST)
