import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from kws.data.dataset import Batches, ClipDataset, draw_evenly
from kws.data.store import PreparedStore
from kws.errors import DataError
from kws.model.labels import SILENCE, UNKNOWN, LabelSet

LABELS = LabelSet.from_keywords(["yes", "no"])
CLIPS = {"yes": 30, "no": 20, "bed": 40, "cat": 3}


@pytest.fixture(scope="module")
def store():
    words = [word for word, count in CLIPS.items() for _ in range(count)]
    manifest = pd.DataFrame({
        "path": [f"{word}/{row}.wav" for row, word in enumerate(words)], "word": words,
        "label": [LABELS.label_of(word) for word in words],
        "split": ["validation" if row % 10 == 9 else "training" for row in range(len(words))]})
    waveforms = np.random.default_rng(1).integers(-9000, 9000, (len(words), 160)).astype(np.int16)
    noise = {"hiss": np.random.default_rng(0).integers(-9000, 9000, 20_000).astype(np.int16)}
    return PreparedStore(manifest=manifest, waveforms=waveforms, noise=noise, sample_rate=16000, labels=LABELS)


def dataset(store, split="training", unknown_ratio=1.0, silence_ratio=0.5, seed=0, left_out=()):
    return ClipDataset(store, split, unknown_ratio, silence_ratio, (-20.0, 0.0), seed, left_out)


def counts(clips):
    return {label: int((clips.label_ids == index).sum()) for index, label in enumerate(LABELS)}


def test_an_epoch_holds_keywords_whole_and_the_rest_in_proportion(store):
    clips = dataset(store)
    assert counts(clips) == {"yes": 27, "no": 18, UNKNOWN: 22, SILENCE: 11}
    assert len(clips) == len(clips.label_ids) == 78


def test_unknown_words_are_drawn_equally_often(store):
    clips = dataset(store, unknown_ratio=2.0)
    words = store.manifest["word"].iloc[clips.rows].value_counts()
    assert words["bed"] + words["cat"] == 45
    assert abs(words["bed"] - words["cat"]) <= 1


def test_words_left_out_are_never_drawn(store):
    clips = dataset(store, unknown_ratio=2.0, left_out=["bed"])
    assert set(store.manifest["word"].iloc[clips.rows]) == {"yes", "no", "cat"}
    assert counts(clips)[UNKNOWN] == 45  # the words that remain come more often


def test_a_word_to_leave_out_that_nobody_said_is_named(store):
    with pytest.raises(DataError, match="no recordings of dog"):
        dataset(store, left_out=["bed", "dog"])


def test_evaluation_takes_every_unknown_clip_once(store):
    clips = dataset(store, "validation", unknown_ratio=None)
    expected = store.manifest.index[store.manifest["split"] == "validation"]
    assert sorted(clips.rows) == sorted(expected)


def test_a_batch_holds_the_clips_asked_for(store):
    clips = dataset(store)
    order = np.random.default_rng(1).permutation(len(clips))
    batch = clips.__getitems__(order)
    assert batch["input_values"].shape == (78, 160) and batch["input_values"].dtype == torch.float32
    assert batch["labels"].tolist() == clips.label_ids[order].tolist()
    for position, waveform in zip(order, batch["input_values"]):
        if position < len(clips.rows):
            assert waveform.tolist() == (store.waveforms[clips.rows[position]] / 32768).tolist()
        else:
            assert waveform.std() > 0 and waveform.tolist() not in (store.waveforms / 32768).tolist()


def test_epochs_differ_and_come_back(store):
    clips, twin = dataset(store), dataset(store)

    def content(epoch, of=clips):
        of.set_epoch(epoch)
        return of.__getitems__(range(len(of)))["input_values"]

    first = content(0)
    assert not torch.equal(content(1), first)
    assert torch.equal(content(0), first)
    assert torch.equal(content(1), content(1, twin))
    assert not torch.equal(dataset(store, seed=1).__getitems__(range(78))["input_values"], first)


def test_silence_keeps_its_levels(store):
    clips = dataset(store, "validation", silence_ratio=90.0)
    silence = clips.__getitems__(np.flatnonzero(clips.label_ids == LABELS.index(SILENCE)))["input_values"]
    level_db = 20 * torch.log10(silence.square().mean(dim=1).sqrt() / (9000 / 3 ** 0.5 / 32768))
    assert -22 < level_db.min() < -17 and -3 < level_db.max() < 2


def test_without_noise_there_is_no_silence(store):
    quiet = dataclasses.replace(store, noise={})
    assert counts(dataset(quiet))[SILENCE] == 0


def test_clips_of_a_word_repeat_only_after_all_of_them_came():
    words = pd.Series(["a"] * 4 + ["b"] * 50)
    drawn = draw_evenly(words, 20, np.random.default_rng(0))
    times = pd.Series(drawn).value_counts()
    assert times[times.index < 4].between(2, 3).all() and len(times[times.index < 4]) == 4
    assert (times[times.index >= 4] == 1).all()


def test_nothing_to_draw_from_gives_nothing():
    assert len(draw_evenly(pd.Series([], dtype=str), 5, np.random.default_rng(0))) == 0


def test_a_small_set_fills_an_epoch_in_several_passes(store):
    once, thrice = dataset(store), ClipDataset(store, "training", 1.0, 0.5, (-20.0, 0.0), 0, min_clips=160)
    assert (once.passes, thrice.passes, len(thrice)) == (1, 3, 3 * len(once))
    assert counts(thrice) == {label: 3 * count for label, count in counts(once).items()}
    batch = thrice.__getitems__(range(len(thrice)))
    silence = batch["input_values"][batch["labels"] == LABELS.index(SILENCE)]
    assert len({clip.numpy().tobytes() for clip in silence}) == 33  # every pass draws its own
    before = thrice.rows.copy()
    thrice.set_epoch(1)
    assert not np.array_equal(before, thrice.rows)


@pytest.mark.parametrize("num_clips, batch_size", [(78, 16), (80, 16), (81, 16), (83, 40), (5, 64), (33, 16)])
@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_the_batches_of_one(num_clips, batch_size, num_processes):
    alone = Batches(num_clips, batch_size, seed=3)
    shares = [Batches(num_clips, batch_size, 3, rank, num_processes) for rank in range(num_processes)]
    orders = []
    for epoch in range(3):
        for batches in (alone, *shares):
            batches.set_epoch(epoch)
        whole, parts = list(alone), [list(share) for share in shares]
        assert len({*map(len, shares), *map(len, parts)}) == 1  # they meet after every batch
        assert sorted(sum((sum(part, []) for part in parts), [])) == sorted(sum(whole, [])) == list(range(num_clips))
        assert all(clips for part in parts for clips in part) and len(whole) == len(alone)
        orders.append(sum(whole, []))
    assert orders[0] != orders[1] != orders[2]
