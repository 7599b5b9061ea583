"""The detector: one event per utterance, the same for every chunking, nothing from nothing."""
from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.inference.decision import Detection
from kws.inference.detector import Detector, DetectorSettings, score_of, settings_from, with_thresholds
from kws.errors import DataError, ModelError
from kws.model.labels import LabelSet

LABELS = LabelSet.from_keywords(["no", "yes"])
NO, YES, OTHER = 0, 1, 2
FRAME = 0.02


def said(frames: int, *words: tuple[int, int, int], surety: float = 8.0) -> np.ndarray:
    """Logits [frames, 4] that answer `_unknown_` but for (word, first frame, count)."""
    logits = np.zeros((frames, 4), dtype=np.float32)
    logits[:, OTHER] = surety
    for word, first, count in words:
        logits[first:first + count] = 0.0
        logits[first:first + count, word] = surety
    return logits


def detect(logits: np.ndarray, **rule: Any) -> list[Detection]:
    return Detector(LABELS, FRAME, 0.5, DetectorSettings(**rule)).feed(logits)


def heard(detections: Sequence[Detection]) -> list[tuple[str, int]]:
    return [(item.word, round((item.time_seconds - 0.5) / FRAME)) for item in detections]


def test_a_word_is_reported_once_when_its_smoothed_score_crosses():
    detections = detect(said(200, (YES, 100, 30)), threshold=0.0, smoothing_seconds=0.2)
    # 10 frames are averaged; the 5th sure one brings the mean to just below a half, the 6th above it.
    assert heard(detections) == [("yes", 105)]
    found = detections[0]
    assert found.time_seconds == pytest.approx(0.5 + 105 * FRAME)
    assert found.start_seconds < found.end_seconds <= found.time_seconds
    assert 0.5 <= found.confidence < 0.7


def test_a_word_that_does_not_end_is_one_event():
    assert heard(detect(said(1000, (NO, 50, 900)), smoothing_seconds=0.02)) == [("no", 50)]


def test_the_same_word_counts_again_after_a_pause_and_the_refractory_time():
    rule = {"smoothing_seconds": 0.02, "refractory_seconds": 1.0}
    assert heard(detect(said(300, (NO, 50, 10), (NO, 90, 10)), **rule)) == [("no", 50)]
    assert heard(detect(said(300, (NO, 50, 10), (NO, 101, 10)), **rule)) == [("no", 50), ("no", 101)]


def test_another_word_counts_sooner():
    rule = {"smoothing_seconds": 0.02, "refractory_seconds": 1.0, "other_refractory_seconds": 0.3}
    assert heard(detect(said(300, (NO, 50, 5), (YES, 60, 5)), **rule)) == [("no", 50)]
    assert heard(detect(said(300, (NO, 50, 5), (YES, 65, 5)), **rule)) == [("no", 50), ("yes", 65)]


def test_each_word_has_its_threshold():
    logits = said(300, (NO, 50, 20), (YES, 150, 20), surety=3.0)
    rule = {"smoothing_seconds": 0.02, "threshold": 5.0}
    assert heard(detect(logits, **rule)) == []
    assert heard(detect(logits, thresholds={"yes": 1.0}, **rule)) == [("yes", 150)]


def test_before_the_first_frame_nothing_was_said():
    assert heard(detect(said(100, (NO, 0, 100)), threshold=0.0, smoothing_seconds=0.2)) == [("no", 5)]


def test_reset_forgets():
    detector = Detector(LABELS, FRAME, 0.5, DetectorSettings(smoothing_seconds=0.2))
    logits = said(60, (NO, 20, 40))
    first = detector.feed(logits)
    detector.reset()
    assert detector.feed(logits) == first != []


def test_smoothed_once_rules_of_any_threshold_decide_as_if_they_had_heard_it():
    logits = np.concatenate([said(60, (NO, 20, 40)), said(100, (YES, 5, 8)), said(100, (NO, 3, 2), (YES, 30, 50))])
    smoothed = Detector(LABELS, FRAME, 0.5, DetectorSettings(smoothing_seconds=0.2)).smooth(logits)
    for threshold in (-3.0, 0.0, 1.0, 5.0):
        rule = DetectorSettings(threshold, {"yes": threshold - 1.0}, smoothing_seconds=0.2)
        assert Detector(LABELS, FRAME, 0.5, rule).decide(smoothed) == Detector(LABELS, FRAME, 0.5, rule).feed(logits)


words = st.tuples(st.sampled_from([NO, YES]), st.integers(0, 190), st.integers(1, 60))


@settings(deadline=None, max_examples=50)
@given(st.lists(words, max_size=6), st.lists(st.integers(0, 80), max_size=12), st.sampled_from([0.0, 0.02, 0.2, 0.5]))
def test_the_chunking_does_not_matter(spoken: list[tuple[int, int, int]], cuts: list[int], smoothing: float):
    logits = said(250, *spoken) + np.random.default_rng(len(spoken)).normal(size=(250, 4)).astype(np.float32)
    rule = DetectorSettings(smoothing_seconds=smoothing, threshold=1.0)
    whole = Detector(LABELS, FRAME, 0.5, rule).feed(logits)
    detector, pieces = Detector(LABELS, FRAME, 0.5, rule), []
    for piece in np.split(logits, np.cumsum(cuts).clip(max=250)):
        pieces += detector.feed(piece)
    assert pieces == whole


@settings(deadline=None, max_examples=50)
@given(st.lists(words, max_size=8))
def test_events_keep_their_distance(spoken: list[tuple[int, int, int]]):
    found = heard(detect(said(300, *spoken), smoothing_seconds=0.04))
    frames = [frame for _, frame in found]
    assert all(later - earlier >= 15 for earlier, later in zip(frames, frames[1:]))
    for word in ("no", "yes"):
        same = [frame for name, frame in found if name == word]
        assert all(later - earlier >= 50 for earlier, later in zip(same, same[1:]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float):
    logits = said(10)
    logits[3, 1] = value
    with pytest.raises(ModelError, match="NaN or infinite"):
        detect(logits)


def test_nothing_fed_is_nothing_heard():
    assert detect(said(0)) == []


@pytest.mark.parametrize("document", [{"refractory_seconds": -1.0}, {"threshold": float("nan")}, {"treshold": 1.0},
                                      {"thresholds": {"no": float("inf")}}, {"smoothing_seconds": float("nan")}])
def test_a_rule_that_cannot_be_is_refused(document: dict[str, Any]):
    with pytest.raises(ValueError):
        settings_from(document)


def test_thresholds_and_confidences_are_on_one_scale():
    for confidence in (0.001, 0.3, 0.5, 0.999):
        assert 1 / (1 + math.exp(-score_of(confidence))) == pytest.approx(confidence)
    own = DetectorSettings(threshold=1.0, thresholds={"no": 3.0})
    assert with_thresholds(own, LABELS, None, {"yes": 0.5}) == DetectorSettings(1.0, {"no": 3.0, "yes": 0.0})
    assert with_thresholds(own, LABELS, 0.5, {}) == DetectorSettings(0.0, {})
    assert with_thresholds(own, LABELS, 0.5, {"no": 0.5}) == DetectorSettings(0.0, {"no": 0.0})
    with pytest.raises(DataError, match="'maybe'.* no yes"):
        with_thresholds(own, LABELS, None, {"maybe": 0.5})


def test_the_nearest_word_is_that_of_the_last_rows():
    detector = Detector(LABELS, FRAME, 0.5, DetectorSettings(threshold=20.0, smoothing_seconds=FRAME))
    assert detector.best()[1] == 0.0
    detector.feed(said(20, (YES, 5, 3)))
    word, confidence = detector.best()
    assert word == "yes" and confidence > 0.99
    detector.feed(said(20))
    assert detector.best()[1] < 0.01
