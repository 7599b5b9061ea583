import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from kws.data.noise_bank import PARTS, NoiseBank
from kws.data.store import PreparedStore
from kws.model.labels import LabelSet


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_windows_never_cross_from_one_recording_to_another():
    bank = NoiseBank([np.full(700, 1.0), np.full(100, 2.0), np.full(101, 3.0)], num_samples=100)
    windows = bank.draw(seeded(), 500)
    assert windows.shape == (500, 100)
    assert (windows == windows[:, :1]).all()
    counts = torch.bincount(windows[:, 0].long())
    assert counts[1:].min() > 100  # recordings are equally likely, however long


def test_every_start_can_be_drawn_the_last_included():
    windows = NoiseBank([np.arange(12.0)], num_samples=10).draw(seeded(), 200)
    assert set(windows[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_short_recordings_are_repeated_to_fill_a_window():
    assert NoiseBank([np.array([1.0, 2.0, 3.0])], num_samples=7).draw(seeded(), 1).shape == (1, 7)


def test_equal_seeds_draw_alike():
    bank = NoiseBank([np.random.default_rng(0).random(1000)], num_samples=100)
    assert torch.equal(bank.draw(seeded(3), 5), bank.draw(seeded(3), 5))


@pytest.mark.parametrize("recordings", [[], [np.empty(0)]])
def test_nothing_to_draw_from_is_refused(recordings):
    with pytest.raises(ValueError, match="no background noise"):
        NoiseBank(recordings, 100)


def store_of(noise):
    manifest = pd.DataFrame({"word": ["yes"] * 4})
    return PreparedStore(manifest, np.full((4, 50), 4096, np.int16), noise, 16000, LabelSet.from_keywords(["yes"]))


def bank(noise, split):
    return NoiseBank.for_split(store_of(noise), split, np.arange(4))


def test_splits_hear_parts_of_their_own(monkeypatch):
    assert list(PARTS.values()) == [(0.0, 0.8), (0.8, 0.9), (0.9, 1.0)]
    noise = {"ramp": np.arange(10_000, dtype=np.int16)}
    monkeypatch.setattr("kws.data.noise_bank.sounds", lambda sample_rate: [])
    monkeypatch.setattr("kws.data.noise_bank.crowds", lambda waveforms, rows: [])
    heard = {split: set((bank(noise, split).draw(seeded(), 2000) * 32768).long().ravel().tolist()) for split in PARTS}
    assert not heard["training"] & heard["validation"]
    assert not heard["training"] & heard["testing"]
    assert not heard["validation"] & heard["testing"]
    assert bank({}, "training") is None


def test_machines_and_crowds_are_heard_in_training_only():
    noise = {"flat": np.full(10_000, 8192, dtype=np.int16)}
    for split in PARTS:
        windows = bank(noise, split).draw(seeded(), 400)
        recorded = (windows == 0.25).all(dim=1)
        crowded = (windows == 0.5).all(dim=1)  # of four clips that are all alike
        assert recorded.any()
        assert crowded.any() == (split == "training")
        assert (~recorded & ~crowded).any() == (split == "training")


def test_stored_recordings_are_not_copied_and_give_what_floats_give(tmp_path):
    stored = np.memmap(tmp_path / "noise", dtype=np.int16, mode="w+", shape=(10_000_000,))
    stored[:] = np.random.default_rng(0).integers(-32768, 32767, len(stored))
    tracemalloc.start()
    bank = NoiseBank([stored, stored[:50]], 100)
    heard = bank.draw(seeded(), 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000 and heard.dtype == torch.float32
    floats = NoiseBank([stored / np.float32(32768), stored[:50] / np.float32(32768)], 100)
    assert torch.equal(heard, floats.draw(seeded(), 64))
