"""What a detector comes to on a folder of streams: misses per condition, false accepts per hour, and which threshold.

Logits are computed once per stream; thresholds are then swept over them in seconds.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import soundfile

from kws.inference.detector import DetectorSettings
from kws.errors import DataError
from kws.model.labels import UNKNOWN
from kws.inference.listening import StreamModel, detector_of
from kws.evaluation.streams import Outcome, Stream, match, poisson_interval, read_streams

_BLOCK_SECONDS = 10.0
_LOWEST, _HIGHEST = -4.0, 20.0  # thresholds, log-odds, that are looked at
_MLPERF_SECONDS = 1200.0  # MLPerf Tiny counts false accepts and misses in 20 minutes


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
        self.heard, self._model = heard, model

    @classmethod
    def listen(cls, folder: Path, model: StreamModel) -> StreamSet:
        """Let a model hear every stream of a folder.

        Raises:
            DataError: if a table or a recording is not as expected.
        """
        streams = read_streams(folder)
        return cls([HeardStream(stream, _logits(folder / stream.path, model)) for stream in streams], model)

    def outcomes(self, settings: DetectorSettings) -> list[Outcome]:
        """Match what the rule detects in each stream with what was said there."""
        return [match(detector_of(self._model, settings).feed(item.logits), item.stream.events) for item in self.heard]

    def false_accepts_per_hour(self, settings: DetectorSettings, chosen: Sequence[HeardStream]) -> float:
        """Count false accepts in some of the streams, per hour of them."""
        count = sum(len(match(detector_of(self._model, settings).feed(item.logits), item.stream.events).false_accepts)
                    for item in chosen)
        return count / (sum(item.stream.seconds for item in chosen) / 3600)

    def threshold_for(self, per_hour: float, settings: DetectorSettings) -> float:
        """Find the lowest threshold, to 0.05, with at most so many false accepts an hour of keyword-free English.

        Raises:
            DataError: "bad_streams" if no stream is keyword-free speech.
        """
        chosen = [item for item in self.heard if item.stream.keyword_free == "yes" and item.stream.kind == "speech"]
        chosen = [item for item in chosen if item.stream.language == "en"] or chosen
        if not chosen:
            raise DataError("no stream of kind speech that is keyword_free: nothing to choose a threshold on",
                            "bad_streams")
        low, high = _LOWEST, _HIGHEST
        while high - low > 0.05:
            middle = (low + high) / 2
            if self.false_accepts_per_hour(replace(settings, threshold=middle), chosen) > per_hour:
                low = middle
            else:
                high = middle
        return round(high, 2)


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
        row["latencies"] += [detection.time_seconds - event.voice_end_seconds for event, detection in outcome.hits
                             if np.isfinite(event.voice_end_seconds)]
    return pd.DataFrame([{"condition": name, **_figures(row)} for name, row in rows.items()])


def condition(stream: Stream) -> str:
    """Name what a stream is an example of: "clean", "speech en", "music"."""
    if any(event.word != UNKNOWN for event in stream.events):
        folder, stem = Path(stream.path).parent.name, Path(stream.path).name.partition(".")[0]
        name = re.sub(r"-\d+$", "", stem)
        return name if folder in ("", "pos") else f"{folder} {name}"
    return f"{stream.kind} {stream.language}".strip()


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


def _logits(path: Path, model: StreamModel) -> np.ndarray:
    """Hear a recording block by block: -> [R, C]."""
    rows = round(_BLOCK_SECONDS * model.sample_rate / model.step_samples)
    state, skipped = np.zeros((1, model.state_size), dtype=np.float32), model.delay_rows
    found = []
    for block in _blocks(path, model, rows * model.step_samples):
        logits, state = model.step(block[None], state)
        found.append(logits[skipped:])
        skipped = max(skipped - len(logits), 0)
    return np.concatenate(found)


def _blocks(path: Path, model: StreamModel, size: int) -> Iterator[np.ndarray]:
    """Read [size] samples at a time, after the zeros that lead; the last block is filled up with silence."""
    pending = np.zeros(model.lead_samples, dtype=np.float32)
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.channels) != (model.sample_rate, 1):
                raise DataError(f"{path}: {file.samplerate:,} Hz, {file.channels} channels; expected "
                                f"{model.sample_rate:,} Hz mono", "bad_streams")
            for block in file.blocks(size, dtype="float32"):
                pending = np.concatenate([pending, block])
                while len(pending) >= size:
                    yield pending[:size]
                    pending = pending[size:]
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: {error.error_string.strip()}", "bad_streams") from None
    tail = len(pending) + (model.delay_rows + 1) * model.step_samples
    pending = np.pad(pending, (0, -(-tail // model.step_samples) * model.step_samples - len(pending)))
    yield pending


def advice(streams: StreamSet, settings: DetectorSettings, targets: Sequence[float]) -> list[dict[str, float]]:
    """Tell which threshold has so many false accepts an hour, and how many keywords it misses, over all conditions."""
    rows = []
    for target in targets:
        chosen = replace(settings, threshold=streams.threshold_for(target, settings))
        table = conditions(streams.heard, streams.outcomes(chosen))
        spoken = table[table["words"] > 0]
        rows.append({"false_accepts_per_hour": target, "threshold": chosen.threshold,
                     "miss_rate": float(spoken["missed"].sum() / max(spoken["words"].sum(), 1))})
    return rows
