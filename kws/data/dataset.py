"""Sampling for an epoch or an evaluation: all keyword clips, `_unknown_` evenly by word, `_silence_` from noise."""
from __future__ import annotations

from typing import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from kws.data.noise_bank import NoiseBank
from kws.data.store import PreparedStore
from kws.model.labels import SILENCE, UNKNOWN
from kws.model.window import FULL_SCALE


class ClipDataset(Dataset):
    """A split as a `torch` dataset of labelled windows; equal for equal seeds.

    Args:
        store: the prepared store.
        split: "training", "validation" or "testing".
        unknown_ratio: `_unknown_` clips, as a multiple of the clips of an average keyword, drawn evenly over the
            words; None takes every one once.
        silence_ratio: `_silence_` clips drawn from the split's background noise, as such a multiple.
        silence_gain_db: range of their level, drawn evenly in dB.
        seed: of every draw.
        left_out: words that are not drawn, to learn how a model answers words it never heard.
        min_clips: an epoch goes through a smaller set as often as it takes to hear so many clips.

    Attributes:
        passes: how often an epoch goes through the set; each time other `_unknown_` and `_silence_` clips are drawn.
        noise: the split's background, from which `_silence_` is drawn; None where there is none.

    Raises:
        DataError: "no_such_word" if the store holds no recording of a word left out.
    """

    def __init__(self, store: PreparedStore, split: str, unknown_ratio: float | None, silence_ratio: float,
                 silence_gain_db: tuple[float, float], seed: int, left_out: Sequence[str] = (),
                 min_clips: int = 0) -> None:
        self._waveforms, self._label_set, self._seed = store.waveforms, store.labels, seed
        self._row_labels = np.array([store.labels.index(label) for label in store.manifest["label"]], dtype=np.int64)
        table = store.split(split, left_out)
        unknown = table[table["label"] == UNKNOWN]
        per_keyword = table["label"].isin(store.labels.keywords).sum() / len(store.labels.keywords)
        self._always = table.index[table["label"] != UNKNOWN].to_numpy()
        self._unknown = unknown
        self._num_unknown = None if unknown_ratio is None else round(unknown_ratio * per_keyword)
        self.noise = NoiseBank.for_split(store, split, table.index.to_numpy())
        self._num_silence = round(silence_ratio * per_keyword) if self.noise else 0
        self._silence_gain_db = silence_gain_db
        num_unknown = len(unknown) if self._num_unknown is None else self._num_unknown
        self.passes = max(1, -(-min_clips // max(1, len(self._always) + num_unknown + self._num_silence)))
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the `_unknown_` and `_silence_` clips of an epoch; an epoch's draw is always the same."""
        spoken, silence = zip(*(self._draw(np.random.default_rng([self._seed, epoch * self.passes + number]))
                                for number in range(self.passes)))
        self.rows = np.concatenate(spoken)
        self._silence, self._silence_gain = (np.concatenate(parts) for parts in zip(*silence))
        silence_ids = np.full(len(self._silence), self._label_set.index(SILENCE))
        self.label_ids = np.concatenate([self._row_labels[self.rows], silence_ids])

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Draw what one pass hears: rows of the store, and silence."""
        unknown = self._unknown.index.to_numpy() if self._num_unknown is None \
            else draw_evenly(self._unknown["word"], self._num_unknown, rng)
        silence = self._draw_silence(torch.Generator().manual_seed(int(rng.integers(2**62))))
        return np.concatenate([self._always, unknown]), silence

    def _draw_silence(self, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows of background noise: [count, 2] places in `noise` and [count, 1] factors; cut when fetched."""
        if self.noise is None:
            return np.empty((0, 2), dtype=np.int64), np.empty((0, 1), dtype=np.float32)
        low, high = self._silence_gain_db
        gain_db = low + (high - low) * torch.rand(self._num_silence, 1, generator=generator)
        return self.noise.places(generator, self._num_silence), (10 ** (gain_db / 20)).numpy()

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Fetch a batch: `input_values` [B, T] float32 in -1..1 and `labels` [B] int64."""
        positions = np.asarray(indices, dtype=np.int64)  # an empty list would be float
        spoken = positions < len(self.rows)
        waveforms = np.empty((len(positions), self._waveforms.shape[1]), dtype=np.float32)
        waveforms[spoken] = self._waveforms[self.rows[positions[spoken]]] / np.float32(FULL_SCALE)
        silent = positions[~spoken] - len(self.rows)
        if self.noise is not None:
            waveforms[~spoken] = self.noise.cut(self._silence[silent]) * self._silence_gain[silent]
        return {"input_values": torch.from_numpy(waveforms), "labels": torch.from_numpy(self.label_ids[positions])}


class Batches(Sampler[list[int]]):
    """An epoch's clips in random order, batch by batch; of several processes, each takes its share of every batch.

    So several processes hear together what one would, in as many steps.

    Args:
        num_clips: N, of an epoch.
        batch_size: clips of a batch, over all processes.
        seed: of the order, which differs from epoch to epoch.
        rank: of this process.
        num_processes: that share the batches.
    """

    def __init__(self, num_clips: int, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1) -> None:
        self._num_clips, self._seed, self._rank, self._num_processes = num_clips, seed, rank, num_processes
        starts = range(batch_size, num_clips, batch_size)
        # A rest of fewer clips than processes joins the batch before: nobody's share is empty.
        self._starts = [start for start in starts if num_clips - start >= num_processes]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._starts) + 1

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._num_clips)
        for batch in np.split(order, self._starts):
            yield batch[self._rank::self._num_processes].tolist()


def draw_evenly(words: pd.Series, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` index values of `words` so that every word is drawn equally often, up to one.

    A word's clips are drawn in random order and come again only when all of them have been drawn.
    """
    groups = [rows.to_numpy() for rows in words.groupby(words).groups.values()]
    if not groups:
        return np.empty(0, dtype=np.int64)
    turns = -(-count // len(groups))
    by_turn = np.stack([np.resize(rng.permutation(rows), turns) for rows in groups], axis=1)
    return rng.permuted(by_turn, axis=1).reshape(-1)[:count].astype(np.int64)
