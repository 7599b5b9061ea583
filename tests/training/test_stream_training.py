"""What is asked of rows, and that a network learns it."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kws.data.running_sound import Composer, Sources, Spoken
from kws.model.modeling import KwsForAudioClassification
from kws.model.folder import SHIPPED
from kws.model.loading import load_torch_model
from kws.training.stream_training import Answers, RowTimes, fine_tune, stream_loss

NO_ROWS = slice(0, 0)


@pytest.fixture(scope="module")
def model() -> KwsForAudioClassification:
    return load_torch_model(SHIPPED)


def answers(words: list[tuple[int, int, int, int]], free: slice = NO_ROWS) -> Answers:
    mask = torch.zeros(1, 100, 2, dtype=torch.bool)
    mask[:, free, 0] = True
    return Answers(mask, words)


def logits(word: int = 3, rows: slice = NO_ROWS) -> torch.Tensor:
    """[1, 100, 4]: sure of `_silence_` but for some rows."""
    made = torch.zeros(1, 100, 4)
    made[..., 3] = 12.0
    made[:, rows] = 0.0
    made[:, rows, word] = 12.0
    return made


def test_a_word_that_is_found_and_silence_elsewhere_cost_nothing():
    words, sound = stream_loss(logits(0, slice(40, 60)), answers([(0, 0, 45, 62)], slice(40, 75)), 10, 50)
    assert words < 0.01 and sound < 0.01


def test_a_word_that_is_missed_or_found_too_late_costs():
    missed, _ = stream_loss(logits(), answers([(0, 0, 45, 62)]), 10, 50)
    late, _ = stream_loss(logits(0, slice(70, 90)), answers([(0, 0, 45, 62)]), 10, 50)
    assert missed > 9 and late > 9


def test_a_word_that_was_not_said_costs_and_so_does_another_one():
    _, sound = stream_loss(logits(0, slice(40, 60)), answers([]), 10, 50)
    _, wrong = stream_loss(logits(1, slice(40, 60)), answers([(0, 0, 45, 62)], slice(40, 75)), 10, 50)
    assert sound > 1 and wrong > 1


def test_rows_of_a_word_are_those_known_in_time(model: KwsForAudioClassification):
    times = RowTimes(model, 4.0)
    assert times.known[-1] <= 4.0 < times.known[-1] + times.step
    found = times.answers([[Spoken(2, 1.0, 1.5)], []], 8)
    (index, keyword, first, end), = found.words
    assert (index, keyword) == (0, 2)
    assert times.known[first] >= 1.15 and times.known[end - 1] <= 1.83
    assert found.free[0, :, 2].sum() == pytest.approx(75, abs=1) and found.free.sum() == found.free[0, :, 2].sum()


def test_a_word_that_the_composition_cuts_short_is_not_asked_for(model: KwsForAudioClassification):
    assert RowTimes(model, 4.0).answers([[Spoken(2, 3.3, 3.8)]], 8).words == []


def test_a_few_steps_change_the_pupil_and_not_the_teacher(model: KwsForAudioClassification):
    rng = np.random.default_rng(0)
    clip = (rng.standard_normal((3, 16_000)) * 3000).astype(np.int16)
    talk = (rng.standard_normal(80_000) * 1000).astype(np.int16)
    composer = Composer(Sources([clip] * 8, [clip], [talk], [talk]), 16_000, 2.5)
    with torch.no_grad():
        features = model.features(torch.from_numpy(clip / np.float32(32768)))
    before = [parameter.clone() for parameter in model.parameters()]
    clips = itertools.repeat((features, torch.tensor([0, 1, 8])))
    trained = fine_tune(model, composer, clips, 2.5, 3, 2, 1e-3, 3.0, 0.2, seed=1)
    assert all(torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before))
    assert not any(torch.equal(parameter, old) for parameter, old in zip(trained.parameters(), before)
                   if parameter.ndim > 1)
