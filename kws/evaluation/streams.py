"""Measuring a detector on running sound: misses, false accepts per hour, doubles, wrong words, latency.

A stream folder holds `manifest.csv` (path, seconds, kind, language, keyword_free) and `events.csv` (stream, start_s,
end_s, word, voice_end_s). An event is heard from its start to half a second after its end, as MLPerf Tiny and
Picovoice's benchmark count it; one event, one hit.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from kws.inference.decision import Detection
from kws.errors import DataError
from kws.model.labels import UNKNOWN

LATE_SECONDS = 0.5  # after an event's end in which it is still heard
DOUBLE_SECONDS = 1.0  # after its end in which hearing it again is a double, not a false accept

_LEVEL = 0.95  # probability that a rate lies in its interval
_KEYWORD_FREE = ("yes", "no", "unknown")


@dataclass(frozen=True)
class Event:
    """A word that was said at a known time.

    Args:
        word: a keyword, or `_unknown_`.
        start_seconds, end_seconds: of the clip or the aligned word.
        voice_end_seconds: where the voice ends; NaN where nobody knows.
    """

    word: str
    start_seconds: float
    end_seconds: float
    voice_end_seconds: float = float("nan")


@dataclass(frozen=True)
class Stream:
    """A recording of minutes and what is known of it.

    Args:
        path: of the recording, relative to the folder.
        seconds: its length.
        kind: "speech", "music", "noise" or "mixed".
        language: code, or empty.
        keyword_free: "yes", "no" or "unknown".
        events: in order of time.
    """

    path: str
    seconds: float
    kind: str
    language: str
    keyword_free: str
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What the detections of one stream came to.

    Args:
        hits: (event, detection) pairs.
        doubles: of an event that was heard before.
        wrong_words: another word than the event's; each is a false accept too.
        false_accepts: detections of what was not said, wrong words included.
        missed: keyword events that nobody heard.
    """

    hits: tuple[tuple[Event, Detection], ...] = ()
    doubles: tuple[Detection, ...] = ()
    wrong_words: tuple[Detection, ...] = ()
    false_accepts: tuple[Detection, ...] = ()
    missed: tuple[Event, ...] = ()

    @property
    def latencies(self) -> list[float]:
        """Seconds from the end of the voice to its detection, of the hits for which that is known."""
        return [detection.time_seconds - event.voice_end_seconds for event, detection in self.hits
                if math.isfinite(event.voice_end_seconds)]


def match(detections: Iterable[Detection], events: Sequence[Event]) -> Outcome:
    """Compare detections with what was said, in order of time."""
    keywords = [event for event in events if event.word != UNKNOWN]
    heard: dict[int, Detection] = {}
    doubles, wrong, false = [], [], []
    for detection in sorted(detections, key=lambda item: item.time_seconds):
        time = detection.time_seconds
        near = [index for index, event in enumerate(keywords)
                if event.start_seconds <= time <= event.end_seconds + DOUBLE_SECONDS]
        same = [index for index in near if keywords[index].word == detection.word]
        timely = [index for index in near if time <= keywords[index].end_seconds + LATE_SECONDS]
        fresh = [index for index in same if index in timely and index not in heard]
        if fresh:
            heard[fresh[0]] = detection
        elif any(index in heard for index in same):
            doubles.append(detection)
        else:
            false.append(detection)
            if timely and not any(index in timely for index in same):
                wrong.append(detection)
    return Outcome(tuple((keywords[index], detection) for index, detection in heard.items()), tuple(doubles),
                   tuple(wrong), tuple(false),
                   tuple(event for index, event in enumerate(keywords) if index not in heard))


def poisson_interval(count: int, exposure: float) -> tuple[float, float]:
    """Bound a rate at 95 %: `count` events in `exposure` -> exact (lowest, highest); (0, 3.0 / exposure) for none."""
    tail = (1 - _LEVEL) / 2 if count else 1 - _LEVEL
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low / exposure), float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2 / exposure)


def read_streams(folder: Path) -> list[Stream]:
    """Read what lies in a folder of streams.

    Raises:
        DataError: "bad_streams" if a table is missing, lacks a column, or says what cannot be.
    """
    manifest, spoken = folder / "manifest.csv", folder / "events.csv"
    rows = _table(manifest, ("path", "seconds", "kind", "language", "keyword_free"))
    rows = _with_numbers(manifest, rows, "seconds")
    events = _table(spoken, ("stream", "start_s", "end_s", "word", "voice_end_s"))
    events = _with_numbers(spoken, _with_numbers(spoken, events, "start_s", "end_s"), "voice_end_s", may_lack=True)
    by_stream: dict[str, list[Event]] = {}
    for row in _rows(events.sort_values("start_s", kind="stable")):
        by_stream.setdefault(row.stream, []).append(Event(row.word, row.start_s, row.end_s, row.voice_end_s))
    streams = [Stream(row.path, row.seconds, row.kind, row.language, row.keyword_free,
                      tuple(by_stream.pop(row.path, ()))) for row in _rows(rows)]
    if not streams:
        raise DataError(f"{manifest}: no streams; expected one a row", "bad_streams")
    if by_stream:  # also of a stream that is named twice
        raise DataError(f"{spoken}: events of {next(iter(by_stream))}, which is not in {manifest}", "bad_streams")
    _check(manifest, streams)
    return streams


def _check(manifest: Path, streams: Sequence[Stream]) -> None:
    """Refuse what would be counted wrongly."""
    seen: set[str] = set()
    for stream in streams:
        where = f"{manifest}: {stream.path}"
        if stream.path in seen:
            raise DataError(f"{where}: named twice", "bad_streams")
        seen.add(stream.path)
        if not 1.0 <= stream.seconds < math.inf:
            raise DataError(f"{where}: {stream.seconds:g} s; expected 1 s or more", "bad_streams")
        if stream.keyword_free not in _KEYWORD_FREE:
            raise DataError(f"{where}: keyword_free is {stream.keyword_free!r}; expected {', '.join(_KEYWORD_FREE)}",
                            "bad_streams")
        for event in stream.events:
            if not 0 <= event.start_seconds < event.end_seconds <= stream.seconds:
                raise DataError(f"{manifest.with_name('events.csv')}: {event.word!r} from {event.start_seconds:g} to "
                                f"{event.end_seconds:g} s in {stream.path}; expected a time in its "
                                f"{stream.seconds:g} s", "bad_streams")


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    yield from table.itertuples()


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a folder of streams holds manifest.csv and events.csv", "bad_streams")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as a table ({error})", "bad_streams") from None
    missing = [name for name in columns if name not in table]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; found {', '.join(table.columns)}", "bad_streams")
    return table


def _with_numbers(path: Path, table: pd.DataFrame, *columns: str, may_lack: bool = False) -> pd.DataFrame:
    """Turn columns into numbers; an empty cell is NaN where it may be."""
    for name in columns:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name][~np.isfinite(numbers) & ~((table[name] == "") & may_lack)]
        if len(wrong):
            raise DataError(f"{path}: {name} in line {wrong.index[0] + 2} is {wrong.iloc[0]!r}; expected a number",
                            "bad_streams")
        table = table.assign(**{name: numbers.astype(float)})
    return table
