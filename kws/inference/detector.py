"""From logits per frame to one event per utterance: the only place that decides in running sound.

Probabilities are averaged over a moment, spread by the log-odds (they crowd near 1), and compared with a threshold per
word. That is the posterior handling of G. Chen et al., "Small-footprint Keyword Spotting Using Deep Neural Networks",
ICASSP 2014, for words of one part.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, NamedTuple, Optional

import numpy as np

from kws.errors import DataError
from kws.inference.decision import Detection, check_logits, probabilities
from kws.model.labels import SILENCE, LabelSet

_LEAST = 1e-9  # of a probability and of what it lacks to 1: log-odds lie within +-20.7


@dataclass(frozen=True)
class DetectorSettings:
    """The rule; it travels with the model.

    Args:
        threshold: log-odds of the smoothed probability from which a keyword counts.
        thresholds: of words that have one of their own.
        smoothing_seconds: over which probabilities are averaged.
        refractory_seconds: after a word's event, in which it is not reported again.
        other_refractory_seconds: likewise of any other word.
        word_seconds: how long a word takes, about.

    Raises:
        ValueError: for a number out of range.
    """

    threshold: float = 1.4
    thresholds: Mapping[str, float] = field(default_factory=dict)
    smoothing_seconds: float = 0.4
    refractory_seconds: float = 1.0
    other_refractory_seconds: float = 0.3
    word_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name in ("smoothing_seconds", "refractory_seconds", "other_refractory_seconds", "word_seconds"):
            if not 0 <= getattr(self, name) <= 60:
                raise ValueError(f"{name}: found {getattr(self, name)!r}; expected 0 to 60 s")
        for word, value in {"threshold": self.threshold, **self.thresholds}.items():
            if not math.isfinite(value):
                raise ValueError(f"{word}: found {value!r}; expected a finite threshold")

    def at_least(self, confidence: float) -> DetectorSettings:
        """Make the rule stricter where a keyword would count with less confidence, 0..1, than this."""
        least = score_of(confidence)
        return replace(self, threshold=max(self.threshold, least),
                       thresholds={word: max(value, least) for word, value in self.thresholds.items()})


class Smoothed(NamedTuple):
    """Rows of averaged probabilities [n, C], and the log-odds [n, K] of the K keywords."""

    confidences: np.ndarray
    scores: np.ndarray


class Detector:
    """Turns logits per frame into detections: one frame at a time or many, with the same result.

    Args:
        labels: C labels of the model.
        frame_seconds: from one row of logits to the next.
        first_seconds: of sound that the first row needs.
        settings: the rule.
    """

    def __init__(self, labels: LabelSet, frame_seconds: float, first_seconds: float,
                 settings: DetectorSettings) -> None:
        self._labels, self._settings = labels, settings
        self._frame_seconds, self._first_seconds = frame_seconds, first_seconds
        self._window = self._frames_of(settings.smoothing_seconds, least=1)
        self._thresholds = np.array([settings.thresholds.get(word, settings.threshold) for word in labels.keywords])
        self.reset()

    def reset(self) -> None:
        """Forget what was heard; the next row of logits is the first one."""
        self._frames = 0
        self._last = np.zeros((0, len(self._labels.keywords)))
        self._recent = np.zeros((self._window - 1, len(self._labels)))
        self._recent[:, self._labels.index(SILENCE)] = 1.0  # before the first frame nothing was said
        self._silent_until = np.zeros(len(self._labels.keywords), dtype=np.int64)  # first frame that may count again
        self._released = np.ones(len(self._labels.keywords), dtype=bool)  # its score was below since its last event

    def feed(self, logits: np.ndarray) -> list[Detection]:
        """Take the next rows of logits, [n, C] finite; return the detections they complete, in order.

        Raises:
            ModelError: "bad_logits" if the shape does not fit the labels or a logit is NaN or infinite.
        """
        return self.decide(self.smooth(logits))

    def smooth(self, logits: np.ndarray) -> Smoothed:
        """Average the next rows of logits, [n, C], with those before each; `feed` is this and `decide`."""
        check_logits(logits, self._labels)
        known = np.concatenate([self._recent, probabilities(logits)])
        self._recent = known[len(logits):]
        row, label = known.strides
        moments = np.ndarray((self._window, *logits.shape), known.dtype, known, strides=(row, row, label))
        confidences = moments.sum(axis=0) / self._window  # in the order of time, for every chunking
        return Smoothed(confidences, _log_odds(confidences[:, :len(self._labels.keywords)]))

    def decide(self, smoothed: Smoothed) -> list[Detection]:
        """Take the next smoothed rows, whichever rule of this smoothing made them; return the detections."""
        confidences, scores = smoothed
        self._last = confidences[:, :len(self._labels.keywords)]
        above = scores >= self._thresholds
        detections, done = [], 0
        for row in np.flatnonzero(above.any(axis=1)).tolist():  # few
            self._released |= row > done or ~above[row]  # between these rows no word is above
            done = row + 1
            detections += self._decide(self._frames + row, confidences[row], scores[row], above[row])
        self._released |= len(above) > done
        self._frames += len(confidences)
        return detections

    def seconds_of(self, frame: int) -> float:
        """Tell when a frame, counted from the first one, is known: the time of the last sample it needs."""
        return self._first_seconds + frame * self._frame_seconds

    def best(self) -> tuple[str, float]:
        """Return the surest keyword in the rows that were fed last, and its confidence."""
        if not len(self._last):
            return self._labels.keywords[0], 0.0
        row, word = np.unravel_index(int(self._last.argmax()), self._last.shape)
        return self._labels.keywords[int(word)], float(self._last[row, word])

    def _decide(self, frame: int, confidences: np.ndarray, scores: np.ndarray, above: np.ndarray) -> list[Detection]:
        """Report the word that is furthest above its threshold, if it may be reported now."""
        free = above & self._released & (frame >= self._silent_until)
        if not free.any():
            return []
        word = int(np.where(free, scores - self._thresholds, -np.inf).argmax())
        settings = self._settings
        other = frame + self._frames_of(settings.other_refractory_seconds)
        self._silent_until = np.maximum(self._silent_until, other)
        self._silent_until[word] = max(other, frame + self._frames_of(settings.refractory_seconds))
        self._released[word] = False
        time = self.seconds_of(frame)
        end = max(time - settings.smoothing_seconds / 2, 0.0)
        of_labels = dict(zip(self._labels, confidences.tolist()))
        name = self._labels.keywords[word]
        return [Detection(name, max(end - settings.word_seconds, 0.0), end, time, of_labels[name], of_labels)]

    def _frames_of(self, seconds: float, least: int = 0) -> int:
        return max(round(seconds / self._frame_seconds), least)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)


def score_of(confidence: float) -> float:
    """Turn a confidence, 0..1, into log-odds."""
    return float(_log_odds(np.asarray(confidence)))


def confidence_of(score: float) -> float:
    """Turn log-odds into a confidence, 0..1."""
    return 1 / (1 + math.exp(-score))


def with_thresholds(settings: DetectorSettings, labels: LabelSet, everywhere: Optional[float],
                    by_word: Mapping[str, float]) -> DetectorSettings:
    """Change the least confidence of keywords.

    Args:
        settings: to change; words that are not named keep theirs.
        labels: of the model.
        everywhere: least confidence of every keyword, 0..1, both excluded; None: as it is.
        by_word: least confidence of single keywords; it counts for more.

    Raises:
        DataError: "unknown_word" if one is no keyword of the model.
    """
    if unknown := [word for word in by_word if word not in labels.keywords]:
        raise DataError(f"threshold of {unknown[0]!r}: no such keyword; there are {' '.join(labels.keywords)}",
                        "unknown_word")
    changed = {word: score_of(value) for word, value in by_word.items()}
    if everywhere is None:
        return replace(settings, thresholds={**settings.thresholds, **changed})
    return replace(settings, threshold=score_of(everywhere), thresholds=changed)


def settings_from(document: Mapping[str, Any]) -> DetectorSettings:
    """Read the rule as it travels with a model: the keyword arguments of `DetectorSettings`.

    Raises:
        ValueError: for another key, or a number out of range.
    """
    try:
        return DetectorSettings(**document)
    except TypeError as error:
        raise ValueError(f"detector: {error}") from None
