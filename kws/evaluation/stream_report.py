"""What a detector comes to on streams, for programs (metrics.json, conditions.csv) and people (pictures, a page)."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence, cast

import numpy as np
import pandas as pd

from kws.evaluation.reports.page import Section, write_page
from kws.evaluation.stream_evaluation import StreamSet, conditions, miss_rates
from kws.evaluation.stream_pictures import curve_figures, timeline
from kws.evaluation.streams import Outcome, poisson_interval
from kws.evaluation.threshold_advice import Advice, advise
from kws.files.atomic import atomic_folder, check_replaceable
from kws.inference.detector import DetectorSettings, confidence_of

TARGETS = (4.0, 2.0, 1.0, 0.5, 0.1)  # false accepts an hour that advice is given for
_LISTED = 200  # false accepts in the page's table
_DPI = 110


@dataclass(frozen=True)
class StreamEvaluation:
    """A rule on streams, and what it came to.

    Args:
        streams: that were heard.
        settings: the rule.
        outcomes: of each stream.
        table: `conditions` of them.
        advice: thresholds for other numbers of false accepts.
    """

    streams: StreamSet
    settings: DetectorSettings
    outcomes: Sequence[Outcome]
    table: pd.DataFrame
    advice: Sequence[Advice]


def evaluate_streams(streams: StreamSet, settings: DetectorSettings) -> StreamEvaluation:
    """Measure a rule."""
    outcomes = streams.outcomes(settings)
    return StreamEvaluation(streams, settings, outcomes, conditions(streams.heard, outcomes),
                            advise(streams, settings, TARGETS))


def figures(evaluation: StreamEvaluation) -> dict[str, Any]:
    """Put the result into plain values, the content of metrics.json; those of most interest are numbers on top."""
    table = evaluation.table
    words = int(table["words"].sum())
    latencies = [seconds for outcome in evaluation.outcomes for seconds in outcome.latencies]
    found: dict[str, Any] = {f"miss_rate_{_slug(name)}": rate for name, rate in miss_rates(table).items()}
    for name, rows in table[table["words"] == 0].groupby("condition", sort=False):
        found[f"false_accepts_per_hour_{_slug(str(name))}"] = float(rows["false_accepts_per_hour"].iloc[0])
    speech = evaluation.streams.keyword_free_speech
    if speech.heard:
        found["false_accepts_per_hour"] = speech.false_accepts(evaluation.settings) / speech.hours
    if words:
        found["doubles_per_100_words"] = 100 * int(table["doubles"].sum()) / words
        found["wrong_words_per_100_words"] = 100 * int(table["wrong_words"].sum()) / words
    if latencies:
        found["latency_median"], found["latency_p95"] = map(float, np.quantile(latencies, (0.5, 0.95)))
    return {**found, "hours": evaluation.streams.hours, "detector": asdict(evaluation.settings),
            "advice": [asdict(item) for item in evaluation.advice],
            "conditions": json.loads(table.set_index("condition").to_json(orient="index"))}


def _slug(name: str) -> str:
    return name.replace(" ", "_")


def check_report(folder: Path) -> None:
    """Raise FileExistsError if a folder holds something else than an earlier report."""
    check_replaceable(folder, "conditions.csv")


def write_report(evaluation: StreamEvaluation, folder: Path, title: str, drawn: Optional[str] = None) -> None:
    """Write metrics.json, conditions.csv, det.png, words.png, timeline.png, report.html; an older one is replaced.

    Args:
        evaluation: what to write.
        folder: for the files.
        title: of the page.
        drawn: path of the stream that timeline.png is of; None: the one with most words.
    Raises:
        DataError: "bad_streams" if no stream has this path.
        FileExistsError: if the folder holds something else.
    """
    check_report(folder)
    judged = evaluation.streams, evaluation.settings, evaluation.outcomes
    path, minute = timeline(*judged, drawn)
    pictures = {**curve_figures(*judged), "timeline": minute}
    headings = {"det": "Misses and false accepts", "words": "Words", "timeline": f"A minute of {path}"}
    with atomic_folder(folder) as new:
        (new / "metrics.json").write_text(json.dumps(figures(evaluation), indent=2) + "\n", encoding="utf-8")
        evaluation.table.to_csv(new / "conditions.csv", index=False)
        for name, figure in pictures.items():
            figure.savefig(new / f"{name}.png", dpi=_DPI)
        write_page(new / "report.html", title, [
            Section("Summary", summary(evaluation)),
            *(Section(headings[name], figures=[figure]) for name, figure in pictures.items()),
            Section("Conditions", "Rates an hour with 95 % Poisson intervals; mlperf: in 20 minutes, as MLPerf Tiny "
                    "counts.", table=evaluation.table),
            _false_accepts(evaluation)])


def write_empty_report(folder: Path, reason: str) -> None:
    """Write a report of nothing, with the reason; an older one is replaced, anything else is a FileExistsError."""
    check_report(folder)
    with atomic_folder(folder) as new:
        (new / "metrics.json").write_text("{}\n", encoding="utf-8")
        pd.DataFrame(columns=["condition", "miss_rate"]).to_csv(new / "conditions.csv", index=False)
        write_page(new / "report.html", "Running sound", [Section("Nothing to measure", reason)])


def summary(evaluation: StreamEvaluation) -> str:
    """Lay the result out as text that a terminal shows well."""
    lines = [f"{'condition':<22} {'hours':>5} {'words':>5} {'missed':>12} {'false':>5} {'an hour, 95 %':>20} "
             f"{'wrong':>5} {'twice':>5} {'latency, p95':>14}"]
    for row in cast(Iterable[Any], evaluation.table.itertuples()):
        missed = f"{row.missed} {row.miss_rate:6.1%}" if row.words else "-"
        rate = f"{row.false_accepts_per_hour:.1f} ({row.per_hour_low:.1f}-{row.per_hour_high:.1f})"
        latency = f"{row.latency_median:.2f} {row.latency_p95:5.2f} s" if np.isfinite(row.latency_median) else "-"
        lines.append(f"{row.condition:<22} {row.hours:>5.2f} {row.words:>5} {missed:>12} {row.false_accepts:>5} "
                     f"{rate:>20} {row.wrong_words:>5} {row.doubles:>5} {latency:>14}")
    speech = evaluation.streams.keyword_free_speech
    if speech.heard:
        count = speech.false_accepts(evaluation.settings)
        low, high = poisson_interval(count, speech.hours)
        lines.append(f"threshold {_described(evaluation.settings)}: {count} false accepts in {speech.hours:.2f} h of "
                     f"speech without keywords, {low:.2g} to {high:.2g} an hour at 95 %")
    else:
        lines.append("no stream is speech without keywords: no advice on thresholds")
    return "\n".join([*lines, *map(str, evaluation.advice)])


def _described(settings: DetectorSettings) -> str:
    own = [f", {word} {confidence_of(value):.3g}" for word, value in settings.thresholds.items()]
    return f"{confidence_of(settings.threshold):.3g}" + "".join(own)


def _false_accepts(evaluation: StreamEvaluation) -> Section:
    """List what was accepted wrongly, the surest first, to be listened to."""
    table = pd.DataFrame([{"stream": item.stream.path, "seconds": round(detection.time_seconds, 2),
                           "word": detection.word, "confidence": detection.confidence}
                          for item, outcome in zip(evaluation.streams.heard, evaluation.outcomes)
                          for detection in outcome.false_accepts], columns=["stream", "seconds", "word", "confidence"])
    table = table.sort_values("confidence", ascending=False)
    return Section("False accepts", f"{len(table):,}, the surest first.", table=table[:_LISTED])
