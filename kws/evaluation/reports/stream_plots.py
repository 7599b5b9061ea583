"""Pictures of a detector in running sound: each function returns a matplotlib figure, no global state."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

_FEWEST, _MOST = 0.1, 100.0  # false accepts an hour that the DET curve shows
_COLOURS = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]  # its stubs know the base class only
_LINES = "-", "--", ":", "-."
_MOST_WORDS = 20  # lines that a timeline can show
_MARKS = {"hit": ("o", "tab:green", "found"), "double": ("D", "tab:orange", "found twice"),
          "wrong word": ("X", "tab:red", "wrong word"), "false accept": ("v", "tab:red", "false accept")}


@dataclass(frozen=True)
class Curve:
    """A line over thresholds, and where the chosen threshold lies on it.

    Args:
        x, y: [K], by rising threshold.
        chosen: (x, y); None: not shown.
    """

    x: np.ndarray
    y: np.ndarray
    chosen: Optional[tuple[float, float]] = None


@dataclass(frozen=True)
class Spoken:
    """A word that was said, from start to end in seconds, and whether it was found."""

    word: str
    start: float
    end: float
    is_found: bool


@dataclass(frozen=True)
class Mark:
    """A detection: word, time in seconds, confidence 0..1, and "hit", "double", "wrong word" or "false accept"."""

    word: str
    time: float
    confidence: float
    kind: str


def det_figure(curves: Mapping[str, Curve], hours: float) -> Figure:
    """Draw the share of missed keywords over false accepts an hour, one line a condition.

    Args:
        curves: by condition; x are false accepts an hour, y shares of missed keywords.
        hours: of the sound that false accepts were counted in; fewer than one cannot be told apart.
    """
    figure = Figure(figsize=(8.5, 5.0), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        style = _style(number)
        some, none = curve.x > 0, curve.y[curve.x == 0]
        # Where none was accepted, the threshold that misses least stands for all.
        edge = [_FEWEST, max(1 / hours, _FEWEST)] if len(none) else []
        axes.plot([*edge, *curve.x[some][::-1]], [none.min(initial=1.0)] * len(edge) + [*curve.y[some][::-1]],
                  label=name, **style)
        if curve.chosen:
            axes.plot(max(curve.chosen[0], _FEWEST), curve.chosen[1], marker="o", color=style["color"],
                      markeredgecolor="black", clip_on=False, zorder=3)
    if 1 / hours > _FEWEST:
        axes.axvspan(_FEWEST, min(1 / hours, _MOST), color="0.92", zorder=0)
        axes.text(_FEWEST * 1.05, 0.98, f"none in {hours:.1f} h", fontsize=8, va="top")
    axes.set(xscale="log", xlim=(_FEWEST, _MOST), ylim=(0.0, 1.0), ylabel="missed keywords",
             xlabel="false accepts an hour of speech without keywords; circles: the chosen threshold")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def words_figure(misses: Mapping[str, Curve], false_accepts: Mapping[str, Curve]) -> Figure:
    """Draw by word, over the threshold: the share of it that is missed, and how often it is reported where it is not.

    Args:
        misses: by word; x are thresholds as confidences, y shares of missed ones; without words that were not said.
        false_accepts: by word; y are false accepts an hour.
    """
    figure = Figure(figsize=(9.5, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    words = list(dict.fromkeys([*misses, *false_accepts]))
    for axes, curves in ((left, misses), (right, false_accepts)):
        for name, curve in curves.items():
            style = _style(words.index(name))
            axes.plot(curve.x, curve.y, label=name, **style)
            if curve.chosen:
                axes.plot(*curve.chosen, marker="o", color=style["color"], markeredgecolor="black", zorder=3)
        axes.set(xlim=(0.0, 1.0), xlabel="threshold; circles: the chosen one")
        axes.grid(alpha=0.3)
    left.set(title="Missed", ylim=(0.0, 1.0))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set(title="False accepts an hour, of speech without keywords", yscale="symlog")
    right.set_ylim(bottom=0.0)
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if words:
        (left if misses else right).legend(fontsize=8)
    return figure


def timeline_figure(times: np.ndarray, scores: Mapping[str, np.ndarray], thresholds: Mapping[str, float],
                    spoken: Sequence[Spoken], marks: Sequence[Mark]) -> Figure:
    """Draw a stretch of a stream: every keyword's score, what was said, what was reported.

    Args:
        times: [R] seconds.
        scores: by keyword, [R] confidences.
        thresholds: by keyword, as confidences.
        spoken: words in the stretch, other words included.
        marks: detections in it.
    """
    figure = Figure(figsize=(15.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for event in spoken:
        colour = "tab:green" if event.is_found else "0.5" if event.word not in scores else "tab:red"
        axes.axvspan(event.start, event.end, color=colour, alpha=0.15, lw=0)
        middle, text = (event.start + event.end) / 2, event.word if event.word in scores else "other"
        axes.text(middle, 1.03, text, rotation=90, fontsize=8, ha="center", va="bottom", color=colour)
        if colour == "tab:red":
            axes.plot(middle, 0.97, marker="x", color=colour, ls="")
    _draw_scores(axes, times, scores, thresholds)
    for mark in marks:
        shape, colour, _ = _MARKS[mark.kind]
        axes.plot(mark.time, mark.confidence, marker=shape, color=colour, ms=8, markeredgecolor="black", zorder=3)
        if mark.kind != "hit":  # whose word stands above
            axes.annotate(mark.word, (mark.time, mark.confidence), (5, 3), textcoords="offset points", fontsize=8)
    _explain(axes)
    axes.set(xlim=(times[0], times[-1]) if len(times) > 1 else None, ylim=(0.0, 1.0), xlabel="seconds",
             ylabel="score")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + len(scores) // 12)
    return figure


def _draw_scores(axes: Axes, times: np.ndarray, scores: Mapping[str, np.ndarray],
                 thresholds: Mapping[str, float]) -> None:
    """Draw the keywords' scores, those that come highest where there are many, and their thresholds."""
    highest = sorted(scores, key=lambda word: -float(scores[word].max(initial=0.0)))[:_MOST_WORDS]
    is_shared = len(set(thresholds.values())) == 1
    for number, word in enumerate(scores):
        if word in highest:
            style = _style(number)
            axes.plot(times, scores[word], label=word, lw=1.2, **style)
            if not is_shared:
                axes.axhline(thresholds[word], color=style["color"], lw=0.6)
    if is_shared:
        axes.axhline(next(iter(thresholds.values())), color="black", lw=0.8, label="threshold")


def _explain(axes: Axes) -> None:
    """Add what the signs mean to the legend."""
    for shape, colour, meaning in _MARKS.values():
        axes.plot([], [], marker=shape, ls="", color=colour, markeredgecolor="black", label=meaning)
    axes.plot([], [], marker="x", ls="", color="tab:red", label="missed")


def _style(number: int) -> dict[str, Any]:
    """Give each of many lines a look of its own."""
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _LINES[number // len(_COLOURS) % len(_LINES)]}
