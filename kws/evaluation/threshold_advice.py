"""Which threshold for how many false accepts an hour, as `kws listen --threshold` takes it, and how sure that is."""
from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import Mapping, Sequence

import numpy as np

from kws.errors import DataError
from kws.evaluation.stream_evaluation import StreamSet, conditions, miss_rates
from kws.evaluation.streams import Outcome, poisson_interval
from kws.inference.detector import DetectorSettings, confidence_of, score_of

# Confidences that can be advised: few digits, and finer where they crowd.
CONFIDENCES = tuple(np.round([*np.arange(0.02, 0.95, 0.01), *np.arange(0.95, 0.9995, 0.001)], 3).tolist())
_MOST_PER_HOUR = 150.0  # false accepts; lower thresholds are no use to anybody


@dataclass(frozen=True)
class Advice:
    """A threshold that has at most so many false accepts an hour of speech without keywords.

    Args:
        per_hour: that were asked for.
        confidence: 0..1, the lowest of CONFIDENCES that has no more.
        false_accepts: that it has.
        hours: of the speech.
        miss_rates: share of keywords that it misses, by group of conditions.
    """

    per_hour: float
    confidence: float
    false_accepts: int
    hours: float
    miss_rates: Mapping[str, float]

    def __str__(self) -> str:
        """Say it in a sentence, with how sure it is."""
        low, high = poisson_interval(self.false_accepts, self.hours)
        counted = f"{self.false_accepts} in {self.hours:.1f} h: {low:.2g} to {high:.2g} an hour at 95 %" \
            if self.false_accepts else f"{self.hours:.1f} h without any: at most {high:.2g} an hour at 95 %"
        if 0 < self.per_hour * self.hours < 1:
            counted += f", too short to tell {self.per_hour:g}"
        missed = ", ".join(f"{name} {rate:.0%}" for name, rate in self.miss_rates.items())
        return (f"at {self.per_hour:g} false accepts an hour: threshold {self.confidence:g} ({counted})"
                + (f"; missed: {missed}" if missed else ""))


def confidence_for(per_hour: float, speech: StreamSet, settings: DetectorSettings) -> float:
    """Find the lowest confidence with at most so many false accepts an hour; the highest one, where all have more.

    Args:
        per_hour: false accepts.
        speech: streams without keywords.
        settings: the rule; its thresholds are of no account.
    Raises:
        DataError: "bad_streams" if there are no streams.
    """
    if not speech.heard:
        raise DataError("no stream of kind speech is keyword_free: nothing to choose a threshold on", "bad_streams")
    found = bisect.bisect_left(CONFIDENCES, True, hi=len(CONFIDENCES) - 1, key=lambda confidence: bool(
        speech.false_accepts(with_confidence(settings, confidence)) <= per_hour * speech.hours))
    return CONFIDENCES[found]


def advise(streams: StreamSet, settings: DetectorSettings, targets: Sequence[float]) -> list[Advice]:
    """Advise a threshold for each number of false accepts an hour; none where no speech is free of keywords."""
    speech, found = streams.keyword_free_speech, []
    for target in targets if speech.heard else ():
        confidence = confidence_for(target, speech, settings)
        rule = with_confidence(settings, confidence)
        found.append(Advice(target, confidence, speech.false_accepts(rule), speech.hours,
                            miss_rates(conditions(streams.heard, streams.outcomes(rule)))))
    return found


def sweep(streams: StreamSet, settings: DetectorSettings) -> dict[float, list[Outcome]]:
    """Judge rules of rising confidence, evenly spread in log-odds, that have no absurd number of false accepts."""
    found: dict[float, list[Outcome]] = {}
    for score in np.arange(7.0, -3.01, -0.25):
        outcomes = streams.outcomes(replace(settings, threshold=float(score), thresholds={}))
        found = {confidence_of(score): outcomes, **found}
        if sum(len(outcome.false_accepts) for outcome in outcomes) > _MOST_PER_HOUR * streams.hours:
            break
    return found


def with_confidence(settings: DetectorSettings, confidence: float) -> DetectorSettings:
    """Change a rule to one threshold for all words."""
    return replace(settings, threshold=score_of(confidence), thresholds={})
