"""Background noise: which part of each recording a split may hear, and windows cut from it at random places."""
from __future__ import annotations

from typing import Sequence

import numpy as np
import torch

from kws.data.babble import crowds
from kws.data.machines import sounds
from kws.data.store import PreparedStore

# Each split hears its own part of every background recording, so that silence is held out as speech is.
PARTS = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}


class NoiseBank:
    """Background recordings from which windows are cut at random places.

    Args:
        recordings: each [T'] float32; those shorter than a window are repeated to fill it.
        num_samples: T of a window.

    Raises:
        ValueError: if there is no recording, or an empty one.
    """

    def __init__(self, recordings: Sequence[torch.Tensor], num_samples: int) -> None:
        if not recordings or min(len(recording) for recording in recordings) == 0:
            raise ValueError("no background noise to draw from")
        filled = [recording.repeat(-(-num_samples // len(recording))) for recording in recordings]
        lengths = torch.tensor([len(recording) for recording in filled])
        self.num_samples = num_samples
        self._waveform = torch.cat(filled)
        self._first = lengths.cumsum(0) - lengths
        self._starts = lengths - num_samples + 1

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
        begin, end = PARTS[split]
        parts = [noise[int(begin * len(noise)):int(end * len(noise))] for noise in store.noise.values()]
        recordings = [part / np.float32(32768) for part in parts if len(part)]
        if not recordings:
            return None
        if split == "training":
            recordings += sounds(store.sample_rate) + crowds(store.waveforms, speech)
        return cls([torch.from_numpy(recording) for recording in recordings], store.waveforms.shape[1])

    def draw(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """Cut [count, T] windows; recordings are equally likely, and no window crosses from one to another."""
        which = torch.randint(len(self._first), (count,), generator=generator)
        offsets = (torch.rand(count, generator=generator, dtype=torch.float64) * self._starts[which]).long()
        starts = (self._first[which] + offsets).to(self._waveform.device)
        return self._waveform.unfold(0, self.num_samples, 1)[starts]

    def to(self, device: torch.device) -> NoiseBank:
        """Move the recordings to a device, in place."""
        self._waveform = self._waveform.to(device)
        return self
