"""Pictures of results: each function returns a matplotlib figure, no global state."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import norm

_DET_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)


def confusion_figure(counts: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw a confusion matrix: [C, C] counts, coloured by the share of each target's row."""
    size = 2.0 + 0.5 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8,
                      color="white" if shares[row, column] > 0.5 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="spoken")
    return figure


def curves_figure(curves: dict[str, Any]) -> Figure:
    """Draw the ROC and the DET curve of `metrics.keyword_curves` side by side."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    roc, det = figure.subplots(1, 2)
    roc.plot(curves["false_accepts"], curves["recall"])
    roc.set(title=f"ROC, area {curves['auc']:.4f}", xlabel="false accepts", ylabel="keywords found", xlim=(0.0, 0.2))
    roc.set_xticks([0.0, 0.05, 0.1, 0.15, 0.2])
    roc.xaxis.set_major_formatter(PercentFormatter(1.0))
    roc.yaxis.set_major_formatter(PercentFormatter(1.0))
    limits = (5e-4, 0.5)  # of both rates; the normal deviate scale has no 0 and no 1
    det.plot(*(norm.ppf(np.clip(curves[name], *limits)) for name in ("det_false_accepts", "misses")))
    ticks = norm.ppf(_DET_TICKS)
    det.set_xticks(ticks, [f"{tick:.1%}" for tick in _DET_TICKS], fontsize=7)
    det.set_yticks(ticks, [f"{tick:.1%}" for tick in _DET_TICKS], fontsize=7)
    det.set(title="DET", xlabel="false accepts", ylabel="misses")
    for axes in (roc, det):
        axes.grid(alpha=0.3)
    return figure


def log_mel_figure(log_mel: np.ndarray, title: str) -> Figure:
    """Draw one spectrogram: [M, F]."""
    figure = Figure(figsize=(3.2, 1.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(log_mel, origin="lower", aspect="auto", cmap="magma")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()
    return figure
