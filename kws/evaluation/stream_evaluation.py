"""What a detector comes to on a folder of streams: misses per condition, false accepts per hour.

A model hears each stream once; rules are then judged on what it answered, in seconds.
"""
from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from kws.audio.blocks import recording_blocks
from kws.errors import AudioError, DataError
from kws.evaluation.streams import Outcome, Stream, match, poisson_interval, read_streams
from kws.inference.detector import DetectorSettings, Smoothed
from kws.inference.listening import StreamModel, detector_of
from kws.model.folder import BLOCK_ROWS
from kws.model.labels import SILENCE, UNKNOWN, LabelSet, normal

_BLOCK_SECONDS = 10.0
_MLPERF_SECONDS = 1200.0  # MLPerf Tiny counts false accepts and misses in 20 minutes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeardStream:
    """A stream and the logits [R, C] of its every frame."""

    stream: Stream
    logits: np.ndarray


class StreamSet:
    """Streams that a model has heard, to be judged by any rule.

    Args:
        heard: all of them.
        model: that heard them.
    """

    def __init__(self, heard: Sequence[HeardStream], model: StreamModel) -> None:
        self.heard, self.model = heard, model
        self._smoothed: dict[float, list[Smoothed]] = {}

    @classmethod
    def listen(cls, folder: Path, model: StreamModel) -> StreamSet:
        """Let a model hear every stream of a folder.

        Raises:
            DataError: "bad_streams" if a table or a recording is not as expected.
        """
        found = read_streams(folder)
        streams = of_labels(found, model.labels)
        for stream in streams:  # all of them, before the first is heard
            _check_recording(folder / stream.path, stream, model)
        warn_of_other_words(found, model.labels)
        total = round(sum(stream.seconds for stream in streams))
        with tqdm(total=total, desc="listening", unit="s", unit_scale=True, disable=None) as bar:
            return cls([HeardStream(stream, _logits(folder / stream.path, model, bar)) for stream in streams], model)

    @property
    def hours(self) -> float:
        """How long all streams last."""
        return sum(item.stream.seconds for item in self.heard) / 3600

    def smoothed(self, settings: DetectorSettings) -> list[Smoothed]:
        """Average the answers for each stream as a rule does; kept for the next rule that smooths likewise."""
        key = settings.smoothing_seconds
        if key not in self._smoothed:
            self._smoothed = {key: [detector_of(self.model, settings).smooth(item.logits) for item in self.heard]}
        return self._smoothed[key]

    def outcomes(self, settings: DetectorSettings) -> list[Outcome]:
        """Match what the rule detects in each stream with what was said there."""
        return [match(detector_of(self.model, settings).decide(smoothed), item.stream.events)
                for item, smoothed in zip(self.heard, self.smoothed(settings))]

    def false_accepts(self, settings: DetectorSettings) -> int:
        """Count false accepts in all streams."""
        return sum(len(outcome.false_accepts) for outcome in self.outcomes(settings))

    @cached_property
    def keyword_free_speech(self) -> StreamSet:
        """Pick the speech without keywords: in the languages that keywords are said in, if there is some."""
        spoken = {item.stream.language for item in self.heard if has_keywords(item.stream)}
        speech = [item for item in self.heard if item.stream.keyword_free == "yes" and item.stream.kind == "speech"]
        return StreamSet([item for item in speech if item.stream.language in spoken] or speech, self.model)


def of_labels(streams: Sequence[Stream], labels: LabelSet) -> list[Stream]:
    """Turn the words of events into labels of a model.

    Raises:
        DataError: "bad_streams" if it knows none of them, or a stream that is free of keywords has one.
    """
    known = {word: word if word in labels.keywords else UNKNOWN for word in _words(streams)}
    if known and set(known.values()) == {UNKNOWN}:
        raise DataError(f"events.csv: no word is a keyword of the model; found {', '.join(sorted(known))}, expected "
                        f"some of {', '.join(labels.keywords)}", "bad_streams")
    found = [replace(stream, events=tuple(replace(event, word=known.get(normal(event.word), UNKNOWN))
                                          for event in stream.events)) for stream in streams]
    for stream in found:
        if stream.keyword_free == "yes" and has_keywords(stream):
            raise DataError(f"manifest.csv: {stream.path} is keyword_free, but events.csv has keywords in it",
                            "bad_streams")
    return found


def warn_of_other_words(streams: Sequence[Stream], labels: LabelSet) -> None:
    """Name words that a model does not know: they may be misspelt."""
    other = [f"{word} ({count})" for word, count in sorted(_words(streams).items()) if word not in labels.keywords]
    if other:
        logger.warning("events.csv: words that the model does not know count as %s: %s", UNKNOWN, ", ".join(other))


def _words(streams: Sequence[Stream]) -> Counter[str]:
    """Count the words that are said."""
    return Counter(normal(event.word) for stream in streams for event in stream.events
                   if event.word not in (UNKNOWN, SILENCE))


def has_keywords(stream: Stream) -> bool:
    """Tell whether a keyword is known to be said in a stream."""
    return any(event.word != UNKNOWN for event in stream.events)


def conditions(heard: Sequence[HeardStream], outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Count by condition: one row each, of streams with keywords by name, of others by kind and language."""
    rows: dict[str, dict[str, Any]] = {}
    for item, outcome in zip(heard, outcomes):
        row = rows.setdefault(condition(item.stream), dict(seconds=0.0, words=0, missed=0, false_accepts=0,
                                                           wrong_words=0, doubles=0, latencies=[]))
        row["seconds"] += item.stream.seconds
        row["words"] += sum(event.word != UNKNOWN for event in item.stream.events)
        for name, found in (("missed", outcome.missed), ("false_accepts", outcome.false_accepts),
                            ("wrong_words", outcome.wrong_words), ("doubles", outcome.doubles)):
            row[name] += len(found)
        row["latencies"] += outcome.latencies
    return pd.DataFrame([{"condition": name, **_figures(row)} for name, row in rows.items()])


def condition(stream: Stream) -> str:
    """Name what a stream is an example of: "clean", "speech-10db", "music"."""
    if has_keywords(stream):
        folder, stem = Path(stream.path).parent.name, Path(stream.path).name.partition(".")[0]
        name = re.sub(r"-\d+$", "", stem)
        return name if folder in ("", "pos") else f"{folder} {name}"
    return f"{stream.kind} {stream.language}".strip()


def group(name: str) -> str:
    """Name the conditions that differ by the level of the background only: "speech-10db" -> "speech"."""
    return re.sub(r"-?\d+ ?db$", "", name, flags=re.IGNORECASE) or name


def miss_rates(table: pd.DataFrame) -> dict[str, float]:
    """Share of the keywords that were missed, by group of conditions, from the table of `conditions`."""
    spoken = table[table["words"] > 0]
    counts = spoken.groupby(spoken["condition"].map(group), sort=False)[["missed", "words"]].sum()
    return {str(name): float(rate) for name, rate in (counts["missed"] / counts["words"]).items()}


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    hours = row["seconds"] / 3600
    low, high = poisson_interval(row["false_accepts"], hours)
    latencies = row["latencies"] or [float("nan")]
    words = row["words"]
    return {"hours": hours, "words": words, "missed": row["missed"],
            "miss_rate": row["missed"] / words if words else float("nan"),
            "false_accepts": row["false_accepts"], "false_accepts_per_hour": row["false_accepts"] / hours,
            "per_hour_low": low, "per_hour_high": high, "wrong_words": row["wrong_words"], "doubles": row["doubles"],
            "latency_median": float(np.median(latencies)), "latency_p95": float(np.quantile(latencies, 0.95)),
            "mlperf_false_accepts": row["false_accepts"] * _MLPERF_SECONDS / row["seconds"],
            "mlperf_missed": row["missed"] * _MLPERF_SECONDS / row["seconds"]}


def _check_recording(path: Path, stream: Stream, model: StreamModel) -> None:
    """Raise DataError "bad_streams" unless a recording can be heard and lasts as long as its manifest says."""
    if not path.is_file():
        raise DataError(f"{path}: no such file, but manifest.csv names it", "bad_streams")
    try:
        found = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: {error.error_string.strip()}", "bad_streams") from None
    if (found.samplerate, found.channels) != (model.sample_rate, 1):
        raise DataError(f"{path}: {found.samplerate:,} Hz, {found.channels} channels; expected "
                        f"{model.sample_rate:,} Hz mono", "bad_streams")
    if abs(found.duration - stream.seconds) > min(1.0, 0.1 * stream.seconds):  # hours are counted by it
        raise DataError(f"{path}: lasts {found.duration:.1f} s; manifest.csv says {stream.seconds:g} s", "bad_streams")


def _logits(path: Path, model: StreamModel, bar: tqdm) -> np.ndarray:
    """Hear a recording block by block: -> [R, C]."""
    blocks = round(_BLOCK_SECONDS * model.sample_rate / (BLOCK_ROWS * model.step_samples))
    state, skipped = model.initial_state, model.delay_rows
    found = []
    for block in _blocks(path, model, blocks * BLOCK_ROWS * model.step_samples):
        (logits,), state = model.step(block[None], state)
        found.append(logits[skipped:])
        skipped = max(skipped - len(logits), 0)
        bar.update(len(block) / model.sample_rate)
    return np.concatenate(found)


def _blocks(path: Path, model: StreamModel, size: int) -> Iterator[np.ndarray]:
    """Read [size] samples at a time, after the zeros that lead; the last block is filled up with silence."""
    pending = np.zeros(model.lead_samples, dtype=np.float32)
    try:
        for block in recording_blocks(path, model.sample_rate):
            pending = np.concatenate([pending, block])
            whole = len(pending) // size * size
            yield from pending[:whole].reshape(-1, size)
            pending = pending[whole:]
    except AudioError as error:
        raise DataError(str(error), "bad_streams") from None
    tail, least = len(pending) + model.late_samples, BLOCK_ROWS * model.step_samples
    pending = np.pad(pending, (0, -(-tail // least) * least - len(pending)))
    yield pending
