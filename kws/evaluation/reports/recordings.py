"""What the recordings are, for programs (data.json) and for people (data.html)."""
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kws.audio.folders import describe
from kws.data.prepare import Report
from kws.data.problems import group_by_code
from kws.data.split import SPLITS, TRAINING
from kws.data.store import PreparedStore
from kws.evaluation.reports.page import Section, write_page
from kws.files.atomic import atomic_file
from kws.model.window import FULL_SCALE

LogMelFunction = Callable[[np.ndarray], np.ndarray]  # [T] float32 in -1..1 -> [M, F]

_MAX_ROWS = 200  # of the page's table of problems; data.json has all
_MAX_PICTURES = 48
_MAX_BARS = 120  # words with most clips
_COLUMNS = 6  # of pictures
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def statistics(report: Report) -> dict[str, Any]:
    """Describe the recordings in plain values; equal recordings give equal values.

    Counts are of the clips in the store; `quantiles` and `problems` are of all files.
    """
    kept, clips = report.clips[report.clips["kept"]], report.clips[report.clips["code"] == ""]
    speakers = kept["speaker"].value_counts()
    return {
        "root": str(report.root),
        "digest": report.digest,
        "sample_rate": report.sample_rate,
        "num_samples": report.num_samples,
        "files": len(report.clips),
        "passed_over": dict(sorted(report.passed_over.items())),
        "clips": len(kept),
        "longer_than_window": int((kept["seconds"] > report.num_samples / report.sample_rate).sum()),
        "hours": _rounded(kept["seconds"].sum() / 3600),
        "clips_per_split": {split: int((kept["split"] == split).sum()) for split in SPLITS},
        "clips_per_label": {label: _per_split(kept[kept["label"] == label]) for label in report.labels},
        "clips_per_word": {word: _per_split(rows) for word, rows in kept.groupby("word")},
        "speakers_per_split": {split: int(kept[kept["split"] == split]["speaker"].nunique()) for split in SPLITS},
        "clips_per_speaker": _quantiles(speakers),
        "sample_rates": {str(rate): int(count)
                         for rate, count in clips["sample_rate"].value_counts().sort_index().items()},
        "quantiles": {name: _quantiles(clips[name])
                      for name in ("seconds", "peak_db", "rms_db", "dc_offset", "clipped")},
        "noise": [{"path": row.path, "seconds": _rounded(row.seconds), "rms_db": _rounded(row.rms_db)}
                  for row in report.noise.itertuples()],
        "problems_per_code": {severity: {code: len(group) for code, group
                                         in group_by_code(report.problems, severity).items()}
                              for severity in ("error", "warning")},
        "problems": [asdict(problem) for problem in report.problems],
    }


def write_summary(report: Report, folder: Path, store: Optional[PreparedStore] = None,
                  log_mel: Optional[LogMelFunction] = None) -> None:
    """Write `data.json` and `data.html`.

    Args:
        report: what was found.
        folder: gets the two files.
        store: the prepared store, for pictures of a clip of each word.
        log_mel: the front end, for the same.
    """
    found = statistics(report)
    with atomic_file(folder / "data.json") as path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sections = list(_sections(report, found))
    if store is not None and log_mel is not None:
        sections.append(Section("How the words look", "One training clip of each word, as the network sees it: "
                                "time to the right, frequency upwards.", [_pictures(store, log_mel)]))
    write_page(folder / "data.html", f"Recordings in {report.root}", sections)


def summary_text(report: Report) -> str:
    """Lay out the counts for a terminal."""
    found = statistics(report)
    width = max(14, *(len(label) + 2 for label in report.labels))
    lines = [f"{'label':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    lines += [f"{label:<{width}}" + "".join(f"{counts[split]:>12,}" for split in SPLITS)
              for label, counts in found["clips_per_label"].items()]
    lines.append(f"{'speakers':<{width}}" + "".join(f"{found['speakers_per_split'][split]:>12,}" for split in SPLITS))
    lines.append(f"{found['clips']:,} of {found['files']:,} clips, {found['hours']:g} h, "
                 f"{len(found['noise'])} background recordings")
    if found["longer_than_window"]:
        seconds = report.num_samples / report.sample_rate
        lines.append(f"{found['longer_than_window']:,} clips are longer than {seconds:g} s: "
                     "their loudest part is kept")
    if report.passed_over:
        lines.append(describe(report.passed_over))
    return "\n".join(lines)


def _per_split(clips: pd.DataFrame) -> dict[str, int]:
    return {split: int((clips["split"] == split).sum()) for split in SPLITS}


def _quantiles(values: pd.Series) -> dict[str, float]:
    return {name: _rounded(values.quantile(share)) for name, share in _QUANTILES.items()} if len(values) else {}


def _rounded(value: Any) -> float:
    """Enough digits to compare, few enough to be the same on every machine."""
    return float(f"{float(value):.4g}")


def _sections(report: Report, found: dict[str, Any]) -> Iterator[Section]:
    clips = report.clips[report.clips["code"] == ""]
    yield Section("Clips", summary_text(report), [_words_figure(found["clips_per_word"])])
    yield from _problem_sections(report)
    if len(clips):
        yield Section("Duration and loudness", "Of all files, as they were found.",
                      [_histograms(clips, {"seconds": "duration (s)", "rms_db": "level (dBFS)",
                                           "peak_db": "peak (dBFS)"})])
        per_speaker = clips.groupby(["split", "speaker"]).size().rename("clips").reset_index()
        yield Section("Speakers", "", [_histograms(per_speaker, {"clips": "clips per speaker"})],
                      pd.DataFrame(found["speakers_per_split"].items(), columns=["split", "speakers"]))
    yield Section("Background noise", "" if len(report.noise) else "None.", (),
                  pd.DataFrame(found["noise"]) if len(report.noise) else None)


def _problem_sections(report: Report) -> Iterator[Section]:
    rows = [(severity, code, len(group), group[0].message) for severity in ("error", "warning")
            for code, group in group_by_code(report.problems, severity).items()]
    if not rows:
        yield Section("Problems", "None.")
        return
    yield Section("Problems", table=pd.DataFrame(rows, columns=["severity", "code", "count", "example"]))
    listed = pd.DataFrame([asdict(problem) for problem in report.problems[:_MAX_ROWS]])
    yield Section("Every problem", f"{len(listed):,} of {len(report.problems):,}; data.json has all of them.",
                  table=listed)


def _words_figure(clips_per_word: dict[str, dict[str, int]]) -> Figure:
    frequent = sorted(clips_per_word, key=lambda word: -sum(clips_per_word[word].values()))[:_MAX_BARS]
    words = [word for word in clips_per_word if word in frequent]
    figure = Figure(figsize=(9.0, 1.2 + 0.22 * len(words)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(words))
    for split in SPLITS:
        counts = np.array([clips_per_word[word][split] for word in words])
        axes.barh(_plain(words), counts, left=left, label=split)
        left += counts
    axes.invert_yaxis()
    axes.set(xlabel="clips")
    axes.legend()
    return figure


def _histograms(table: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """One histogram per column, the splits in it stacked."""
    figure = Figure(figsize=(4.0 * len(columns), 3.0), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        axes.hist([table[table["split"] == split][column] for split in SPLITS], bins=40, stacked=True, label=SPLITS)
        axes.set(xlabel=title, yscale="log")
    axes.legend()
    return figure


def _pictures(store: PreparedStore, log_mel: LogMelFunction) -> Figure:
    """A grid of log-mel spectrograms: the first training clip of each word, keywords first."""
    training = store.manifest[store.manifest["split"] == TRAINING]
    first = training.drop_duplicates("word").sort_values(
        "label", key=lambda labels: labels.map(store.labels.index), kind="stable")[:_MAX_PICTURES]
    rows = -(-len(first) // _COLUMNS)
    figure = Figure(figsize=(11.0, 1.7 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, row, word in zip(grid, first.index.to_numpy(), first["word"], strict=False):
        axes.imshow(log_mel(store.waveforms[row] / np.float32(FULL_SCALE)), origin="lower", aspect="auto")
        axes.set_title(_plain([word])[0], fontsize=9)
    for axes in grid:
        axes.set_axis_off()
    return figure


def _plain(names: list[str]) -> list[str]:
    """Keep matplotlib from reading a name as a formula."""
    return [name.replace("$", r"\$") for name in names]
