"""Counting on streams: hits, doubles, wrong words, false accepts, by hand."""
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kws.inference.decision import Detection
from kws.errors import DataError
from kws.evaluation.streams import Event, match, poisson_interval, read_streams


def at(time: float, word: str = "no") -> Detection:
    return Detection(word, time - 0.5, time, time, 0.9)


NO, YES, OTHER = Event("no", 10.0, 11.0, 10.8), Event("yes", 14.0, 15.0), Event("_unknown_", 20.0, 21.0)


@pytest.mark.parametrize("time", [10.0, 10.7, 11.5])
def test_a_word_is_heard_from_its_start_to_half_a_second_after_its_end(time: float):
    outcome = match([at(time)], [NO])
    assert outcome.hits == ((NO, at(time)),)
    assert (outcome.missed, outcome.false_accepts) == ((), ())


@pytest.mark.parametrize("time", [9.99, 11.51])
def test_earlier_and_later_it_is_a_false_accept(time: float):
    outcome = match([at(time)], [NO])
    assert outcome.false_accepts == (at(time),)
    assert outcome.missed == (NO,)
    assert outcome.wrong_words == ()


def test_the_second_time_is_a_double_until_a_second_after_its_end():
    outcome = match([at(10.5), at(11.9), at(12.1)], [NO])
    assert outcome.doubles == (at(11.9),)
    assert outcome.false_accepts == (at(12.1),)


def test_another_word_is_wrong_and_false_and_the_word_is_missed():
    outcome = match([at(10.5, "yes")], [NO])
    assert outcome.wrong_words == outcome.false_accepts == (at(10.5, "yes"),)
    assert outcome.missed == (NO,)


def test_a_keyword_in_an_other_word_is_a_false_accept_and_not_a_wrong_word():
    outcome = match([at(20.5)], [OTHER])
    assert (outcome.false_accepts, outcome.wrong_words, outcome.missed) == ((at(20.5),), (), ())


def test_two_words_that_follow_each_other_are_two_hits_the_earlier_one_first():
    first, second = Event("no", 1.0, 2.0), Event("no", 2.1, 3.1)
    outcome = match([at(2.2), at(2.9)], [first, second])
    assert outcome.hits == ((first, at(2.2)), (second, at(2.9)))
    assert match([at(2.2)], [first, second]).missed == (second,)


def test_detections_may_come_in_any_order():
    assert match([at(14.5, "yes"), at(10.5)], [NO, YES]).missed == ()


@pytest.mark.parametrize("count, hours, expected", [(0, 3.9, (0.0, 0.768)), (1, 1.0, (0.0253, 5.572)),
                                                    (10, 2.0, (2.398, 9.195))])
def test_poisson_interval(count: int, hours: float, expected: tuple[float, float]):
    assert poisson_interval(count, hours) == pytest.approx(expected, rel=1e-3)


@given(st.integers(1, 200), st.floats(0.1, 100.0))
def test_poisson_interval_holds_the_count_with_its_probability(count: int, hours: float):
    low, high = poisson_interval(count, hours)
    assert stats.poisson.sf(count - 1, low * hours) == pytest.approx(0.025)  # so many or more
    assert stats.poisson.cdf(count, high * hours) == pytest.approx(0.025)  # so many or fewer


@given(st.floats(0.1, 100.0))
def test_poisson_interval_of_none_is_one_sided(hours: float):
    low, high = poisson_interval(0, hours)
    assert low == 0.0 and stats.poisson.cdf(0, high * hours) == pytest.approx(0.05)


def test_streams_are_read_with_their_events(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("path,seconds,kind,language,keyword_free\na.wav,60,speech,en,no\n")
    (tmp_path / "events.csv").write_text("stream,start_s,end_s,word,voice_end_s\na.wav,5,6,no,\na.wav,1,2,yes,1.5\n")
    stream, = read_streams(tmp_path)
    assert [event.word for event in stream.events] == ["yes", "no"]
    assert stream.seconds == 60.0


def test_a_table_without_a_column_is_named(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("path,seconds\na.wav,60\n")
    with pytest.raises(DataError, match="manifest.csv: no column kind, language, keyword_free"):
        read_streams(tmp_path)
