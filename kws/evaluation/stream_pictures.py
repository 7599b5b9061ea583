"""Pictures of a detector on streams: misses over false accepts, the same by word, a minute of a stream."""
from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from matplotlib.figure import Figure

from kws.errors import DataError
from kws.evaluation.reports.stream_plots import Curve, Mark, Spoken, det_figure, timeline_figure, words_figure
from kws.evaluation.stream_evaluation import StreamSet, condition, has_keywords
from kws.evaluation.streams import Outcome
from kws.evaluation.threshold_advice import sweep
from kws.inference.detector import DetectorSettings, confidence_of
from kws.inference.listening import detector_of

_TIMELINE_SECONDS, _STEP_SECONDS = 60.0, 10.0


def curve_figures(streams: StreamSet, settings: DetectorSettings, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Draw "det", misses by condition, and "words", misses and false accepts by word, over a sweep of thresholds.

    Args:
        streams: that were heard.
        settings: the rule; what it came to is marked.
        outcomes: what that was.
    Returns:
        the figures; no "det" if there are not both, words and speech without.
    """
    swept = sweep(streams, settings)
    every, grid = [*swept.values(), outcomes], np.array(list(swept))  # the last one is that of the rule
    hours = streams.keyword_free_speech.hours
    names: dict[str, list[int]] = {}
    for index, item in enumerate(streams.heard):
        if has_keywords(item.stream):
            names.setdefault(condition(item.stream), []).append(index)
    false = _false_words(streams, every)
    found = {}
    if names and hours:
        rates = np.array([len(words) / hours for words in false])
        found["det"] = det_figure({name: _curve(rates, np.array([_miss_rate([judged[index] for index in indices])
                                                                for judged in every]))
                                   for name, indices in names.items()}, hours)
    thresholds = _thresholds(streams, settings)
    missed = {word: np.array([_miss_rate(judged, word) for judged in every]) for word in thresholds}
    accepted = {word: np.array([words.count(word) for words in false]) / (hours or np.nan) for word in thresholds}
    found["words"] = words_figure(*({word: _curve(np.append(grid, thresholds[word]), rates)
                                     for word, rates in by_word.items() if np.isfinite(rates).all()}
                                    for by_word in (missed, accepted)))
    return found


def _curve(x: np.ndarray, y: np.ndarray) -> Curve:
    return Curve(x[:-1], y[:-1], (float(x[-1]), float(y[-1])))


def _false_words(streams: StreamSet, every: Sequence[Sequence[Outcome]]) -> list[list[str]]:
    """List the false accepts of keyword-free speech for each of several rules."""
    speech = {id(item) for item in streams.keyword_free_speech.heard}
    return [[detection.word for item, outcome in zip(streams.heard, judged) if id(item) in speech
             for detection in outcome.false_accepts] for judged in every]


def _thresholds(streams: StreamSet, settings: DetectorSettings) -> dict[str, float]:
    """Confidence from which each keyword counts."""
    return {word: confidence_of(settings.thresholds.get(word, settings.threshold))
            for word in streams.model.labels.keywords}


def _miss_rate(outcomes: Sequence[Outcome], word: Optional[str] = None) -> float:
    """Share of keywords, or of one, that was missed; NaN where none was said."""
    missed = sum(event.word == (word or event.word) for outcome in outcomes for event in outcome.missed)
    found = sum(event.word == (word or event.word) for outcome in outcomes for event, _ in outcome.hits)
    return missed / (missed + found) if missed + found else float("nan")


def timeline(streams: StreamSet, settings: DetectorSettings, outcomes: Sequence[Outcome],
             path: Optional[str]) -> tuple[str, Figure]:
    """Draw the minute of a stream in which most went wrong, or else most was said.

    Args:
        streams: that were heard.
        settings: the rule.
        outcomes: what it came to.
        path: of the stream; None: the one with most words.
    Returns:
        path of the stream, and the figure.
    Raises:
        DataError: "bad_streams" if no stream has this path.
    """
    number = find_stream(streams, path)
    item, outcome = streams.heard[number], outcomes[number]
    begin = _minute(outcome, item.stream.seconds)
    end = min(begin + _TIMELINE_SECONDS, item.stream.seconds)
    detector, rows = detector_of(streams.model, settings), streams.smoothed(settings)[number].confidences
    times = np.array([detector.seconds_of(row) for row in range(len(rows))])
    shown = (times >= begin) & (times <= end)
    scores = {word: rows[shown, index] for index, word in enumerate(streams.model.labels.keywords)}
    found = {id(event) for event, _ in outcome.hits}
    spoken = [Spoken(event.word, event.start_seconds, event.end_seconds, id(event) in found)
              for event in item.stream.events if begin <= event.start_seconds and event.end_seconds <= end]
    marks = [mark for mark in _marks(outcome) if begin <= mark.time <= end]
    return item.stream.path, timeline_figure(times[shown], scores, _thresholds(streams, settings), spoken, marks)


def find_stream(streams: StreamSet, path: Optional[str]) -> int:
    """Return the index of the stream of this path; None: of the one with most words.

    Raises:
        DataError: "bad_streams" if no stream has this path.
    """
    paths = [item.stream.path for item in streams.heard]
    if path is None:
        return int(np.argmax([len(item.stream.events) for item in streams.heard]))
    if path not in paths:
        raise DataError(f"{path}: no such stream; there are {', '.join(paths)}", "bad_streams")
    return paths.index(path)


def _minute(outcome: Outcome, seconds: float) -> float:
    """Find where the minute begins in which most went wrong, or else most was said."""
    wrong = np.array([event.start_seconds for event in outcome.missed]
                     + [detection.time_seconds for detection in outcome.false_accepts])
    right = np.array([event.start_seconds for event, _ in outcome.hits])
    starts = np.arange(0.0, max(seconds - _TIMELINE_SECONDS, 0.0) + 0.1, _STEP_SECONDS).tolist()
    return float(max(starts, key=lambda start: tuple(
        int(((times >= start) & (times <= start + _TIMELINE_SECONDS)).sum()) for times in (wrong, right))))


def _marks(outcome: Outcome) -> list[Mark]:
    wrong = {id(detection) for detection in outcome.wrong_words}
    kinds = {"hit": [detection for _, detection in outcome.hits], "double": outcome.doubles,
             "wrong word": outcome.wrong_words,
             "false accept": [item for item in outcome.false_accepts if id(item) not in wrong]}
    return [Mark(item.word, item.time_seconds, item.confidence, kind) for kind, items in kinds.items()
            for item in items]
