"""What is asked of rows, and that a network learns it."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kws.data.running_sound import Composer, Sources
from kws.model.modeling import KwsForAudioClassification
from kws.model.folder import SHIPPED
from kws.model.loading import load_torch_model
from kws.training.stream_training import Answers, Compositions, Recipe, RowTimes, stream_loss, train_on_sound

NO_ROWS = slice(0, 0)


@pytest.fixture(scope="module")
def model() -> KwsForAudioClassification:
    return load_torch_model(SHIPPED)


def answers(timely: slice = NO_ROWS, free: slice = NO_ROWS) -> Answers:
    """Of one composition in which keyword 0 is to be found in some rows, or nothing is."""
    mask, rows = torch.zeros(1, 100, 2, dtype=torch.bool), torch.zeros(1, 100, dtype=torch.bool)
    mask[:, free, 0], rows[:, timely] = True, True
    words = torch.zeros(1 if rows.any() else 0, dtype=torch.long)
    return Answers(mask, words, words, rows[:len(words)])


def logits(word: int = 3, rows: slice = NO_ROWS) -> torch.Tensor:
    """[1, 100, 4]: sure of `_silence_` but for some rows."""
    made = torch.zeros(1, 100, 4)
    made[..., 3] = 12.0
    made[:, rows] = 0.0
    made[:, rows, word] = 12.0
    return made


def test_a_word_that_is_found_and_silence_elsewhere_cost_nothing():
    words, sound = stream_loss(logits(0, slice(40, 60)), answers(slice(45, 62), slice(40, 75)), 10, 50)
    assert words < 0.01 and sound < 0.01


def test_a_word_that_is_missed_or_found_too_late_costs():
    missed, _ = stream_loss(logits(), answers(slice(45, 62)), 10, 50)
    late, _ = stream_loss(logits(0, slice(70, 90)), answers(slice(45, 62)), 10, 50)
    assert missed > 9 and late > 9


def test_a_word_that_was_not_said_costs_and_so_does_another_one():
    _, sound = stream_loss(logits(0, slice(40, 60)), answers(), 10, 50)
    _, wrong = stream_loss(logits(1, slice(40, 60)), answers(slice(45, 62), slice(40, 75)), 10, 50)
    assert sound > 1 and wrong > 1


def test_rows_of_a_word_are_those_known_in_time(model: KwsForAudioClassification):
    times = RowTimes(model, 4.0)
    assert times.known[-1] <= 4.0 < times.known[-1] + times.step
    found = times.answers(torch.tensor([[0, 2, 1.0, 1.5], [0, 2, 1.2, 1.6]], dtype=torch.float64), 2, 8)
    assert found.composition.tolist() == [0, 0] and found.keyword.tolist() == [2, 2]
    known = times.known[found.timely[0]]
    assert 1.15 <= known[0] < 1.17 and 1.76 < known[-1] <= 1.78
    assert found.free[0, :, 2].sum() == pytest.approx(80, abs=1) and found.free.sum() == found.free[0, :, 2].sum()


def test_a_word_that_the_composition_cuts_short_is_not_asked_for(model: KwsForAudioClassification):
    words = torch.tensor([[0, 2, 3.3, 3.8]], dtype=torch.float64)
    assert not len(RowTimes(model, 4.0).answers(words, 1, 8).keyword)


@pytest.fixture(scope="module")
def composer() -> Composer:
    rng = np.random.default_rng(0)
    clip = (rng.standard_normal((3, 16_000)) * 3000).astype(np.int16)
    talk = (rng.standard_normal(80_000) * 1000).astype(np.int16)
    return Composer(Sources([clip] * 8, [clip], [talk], [talk], [np.array([1.0, 0.5], np.float32)]), 16_000, 2.5)


def test_steps_change_the_pupil_and_leave_what_it_began_as(model: KwsForAudioClassification, composer: Composer):
    before = [parameter.clone() for parameter in model.parameters()]
    trained, = train_on_sound([model], composer, 2.5, Recipe(20, 2, 1e-3, 3.0, 0.2, 0, seed=1))
    assert all(torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before))
    assert not any(torch.equal(parameter, old) for parameter, old in zip(trained.parameters(), before)
                   if parameter.ndim > 1)


def test_the_same_sound_is_composed_whoever_composes_it(composer: Composer):
    alone, beside = (list(DataLoader(Compositions(composer, 2, 7), batch_size=None, sampler=range(3),
                                     num_workers=workers)) for workers in (0, 2))
    for (sounds, words), (same, said) in zip(alone, beside):
        assert torch.equal(sounds, same) and torch.equal(words, said)


def test_several_networks_learn_and_the_first_teaches(model: KwsForAudioClassification, composer: Composer):
    recipe, model = Recipe(12, 2, 1e-3, 3.0, 0.2, 0, seed=1), copy.deepcopy(model)
    model.network.head[0].p = 0.0  # draws of dropout would differ
    alone, = train_on_sound([model], composer, 2.5, recipe)
    teacher, taught = train_on_sound([model, model], composer, 2.5, recipe)
    assert torch.equal(alone.network.head[1].weight, teacher.network.head[1].weight)  # nobody teaches it
    assert not torch.equal(taught.network.head[1].weight, teacher.network.head[1].weight)
