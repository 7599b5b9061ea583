"""The page about a model of own words: what is found, what is confused, whether more recordings would help."""
from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kws.evaluation.reports.page import Section, write_page
from kws.evaluation.reports.plots import confusion_figure
from kws.model.labels import UNKNOWN
from kws.training.own_words import OwnWords, summary_text

_MOST_LISTED = 20


def write_own_words(own: OwnWords, path: Path, title: str) -> None:
    """Write the page, one file."""
    labels = [*own.keywords, UNKNOWN]
    names = {label: index for index, label in enumerate(labels)}
    counts = pd.crosstab(own.answers["label"].map(names), own.answers["answer"].map(names).fillna(names[UNKNOWN]))
    counts = counts.reindex(index=range(len(labels)), columns=range(len(labels)), fill_value=0)
    sections = [Section("How sure is it", summary_text(own)),
                Section("Words", table=own.per_word()),
                Section("What is taken for what", "Rows: what was said; columns: what was answered.",
                        [confusion_figure(counts.to_numpy(), labels)])]
    if len(own.curve) > 1:
        sections.append(Section("Would more recordings help", "Where the curve still rises at its end, they would.",
                                [_curve_figure(own.curve)]))
    if len(own.doubtful()):
        sections.append(Section("Listen to these again", "A model trained on the other recordings takes these for "
                                "something else. They may be another word, cut, quiet, or said differently.",
                                table=own.doubtful().head(_MOST_LISTED)))
    write_page(path, title, sections)


def _curve_figure(curve: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6.0, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["recordings"], curve["found"], marker="o")
    axes.set(xlabel="recordings of each keyword", ylabel="keywords found", ylim=(0.0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    return figure
