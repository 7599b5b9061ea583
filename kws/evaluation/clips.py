"""The evaluation job: a model against labelled clips -> metrics, pictures, the worst mistakes."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from kws.data.dataset import ClipDataset
from kws.data.store import PreparedStore
from kws.errors import AudioError, DataError
from kws.evaluation import metrics
from kws.evaluation.reports import plots
from kws.evaluation.reports.page import Section, write_page
from kws.files.atomic import atomic_folder, check_replaceable
from kws.inference.batch.inputs import list_inputs
from kws.inference.spotter import Clip, KeywordSpotter
from kws.model.labels import LabelSet

_BATCH_SIZE = 256
_MISTAKES = 20


@dataclass(frozen=True)
class LabelledClips:
    """Clips to evaluate on.

    Args:
        names: [N] what to call each clip.
        clips: [N] paths or arrays, as a `KeywordSpotter` takes them.
        targets: [N] label indices.
        labels: that these are indices of.
        unlabelled: number of clips left out, as they have no label.
    """

    names: Sequence[str]
    clips: Sequence[Clip]
    targets: np.ndarray
    labels: LabelSet
    unlabelled: int = 0


@dataclass(frozen=True)
class Mistake:
    """A misclassified clip.

    Args:
        name: of the clip.
        spoken: its label.
        answered: the model's.
        confidence: 0..1, of the answer.
        window: [T] float32, what the model heard.
    """

    name: str
    spoken: str
    answered: str
    confidence: float
    window: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Answers of a model, and the metrics of them.

    Args:
        labels: of the model.
        names: of the N clips that could be read.
        targets: [N] label indices.
        probabilities: [N, C] float64.
        predicted: [N] label indices of the answers; of a recording longer than the window the detector decides.
        metrics: the content of metrics.json.
        mistakes: the surest wrong answers, the surest first.
        errors: messages of clips that could not be read; they count in no metric but are reported.
    """

    labels: LabelSet
    names: Sequence[str]
    targets: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    metrics: dict[str, Any]
    mistakes: Sequence[Mistake]
    errors: Sequence[str]


def check_same_window(store: PreparedStore, spotter: KeywordSpotter) -> None:
    """Refuse to measure a model on clips of another rate or length than it listens to.

    Raises:
        DataError: "other_window".
    """
    found, expected = (store.waveforms.shape[1], store.sample_rate), (spotter.num_samples, spotter.sample_rate)
    if found != expected:
        raise DataError("the prepared store has clips of {:,} samples at {:,} Hz; expected the model's window, {:,} "
                        "samples at {:,} Hz. Give the configuration that it was trained with".format(*found, *expected),
                        "other_window")


def clips_of_split(store: PreparedStore, split: str, silence_ratio: float, silence_gain_db: tuple[float, float],
                   seed: int) -> LabelledClips:
    """All clips of a split of a prepared store, and `_silence_` drawn from its part of the background noise.

    Raises:
        DataError: "no_clips" if the split is empty.
    """
    dataset = ClipDataset(store, split, None, silence_ratio, silence_gain_db, seed)
    if len(dataset) == 0:
        counts = store.manifest["split"].value_counts().to_dict()
        raise DataError(f"no clips in split {split!r}; the store holds {counts}", "no_clips")
    names = store.manifest["path"].to_numpy()[dataset.rows].tolist()
    silence = dataset.__getitems__(range(len(names), len(dataset)))["input_values"].numpy()
    names += [f"background noise {number}" for number in range(len(silence))]
    return LabelledClips(names, [*(store.waveforms[row] for row in dataset.rows), *silence], dataset.label_ids,
                         store.labels)


def clips_of_manifest(manifest: Path, labels: LabelSet) -> LabelledClips:
    """The clips of a CSV or Parquet file with the columns `path` (relative to it) and `label`.

    Words that are not labels of the model count as `_unknown_`; rows with a blank label are left out.

    Raises:
        DataError: if the file cannot be read, lacks a column, or has no rows with a label.
    """
    listing = list_inputs(manifest)
    if not listing.has_targets:
        raise DataError(f"{manifest}: no column label; expected a manifest with the columns path and label",
                        "no_label_column")
    rows = list(listing)
    labelled = [(row, row.target) for row in rows if row.target is not None]
    if not labelled:
        raise DataError(f"{manifest}: {f'{len(rows):,} rows, none with a label' if rows else 'no rows'}", "no_clips")
    targets = np.array([labels.index(labels.label_of(target)) for _, target in labelled])
    return LabelledClips([row.path for row, _ in labelled], [row.location for row, _ in labelled], targets, labels,
                         len(rows) - len(labelled))


def evaluate(spotter: KeywordSpotter, clips: LabelledClips) -> Evaluation:
    """Measure a model on clips.

    Raises:
        DataError: "no_clips" if none of them can be read, "other_labels" if they are labelled for another model.
        ModelError: "bad_logits" if the model answers NaN.
    """
    if clips.labels != spotter.labels:
        raise DataError(f"clips labelled {', '.join(clips.labels)}; expected the model's labels, "
                        f"{', '.join(spotter.labels)}. Give the configuration that it was trained with", "other_labels")
    answers = [answer for start in tqdm(range(0, len(clips.names), _BATCH_SIZE), "evaluating", unit="batch",
                                        disable=None)
               for answer in spotter.classify(clips.clips[start:start + _BATCH_SIZE],
                                              names=clips.names[start:start + _BATCH_SIZE])]
    errors = [str(answer) for answer in answers if isinstance(answer, AudioError)]
    heard = [(row, answer) for row, answer in enumerate(answers) if not isinstance(answer, AudioError)]
    if not heard:
        raise DataError(f"none of {len(answers):,} clips can be read; {errors[0]}", "no_clips")
    targets = clips.targets[[row for row, _ in heard]]
    probabilities = np.array([list(answer.confidences.values()) for _, answer in heard])
    predicted = np.array([spotter.labels.index(answer.label) for _, answer in heard])
    worst = metrics.worst_mistakes(targets, predicted, probabilities, _MISTAKES)
    mistakes = [
        Mistake(clips.names[row], spotter.labels.names[clips.targets[row]], answer.label, answer.confidence,
                spotter.window(clips.clips[row], answer.start_seconds))
        for row, answer in (heard[index] for index in worst)]
    figures = {"clips": len(heard), "unreadable": len(errors), "unlabelled": clips.unlabelled,
               **_figures(targets, predicted, probabilities, spotter.labels)}
    return Evaluation(spotter.labels, [clips.names[row] for row, _ in heard], targets, probabilities, predicted,
                      figures, mistakes, errors)


def _figures(targets: np.ndarray, predicted: np.ndarray, rows: np.ndarray, labels: LabelSet) -> dict[str, Any]:
    point = metrics.threshold_for_false_accepts(targets, rows, labels)
    curves = metrics.keyword_curves(targets, rows, labels)
    return {**metrics.headline(targets, predicted),
            "expected_calibration_error": metrics.expected_calibration_error(targets, rows),
            "keyword_auc": curves.get("auc"),
            "one_percent_false_accepts": asdict(point) if point else None,
            "per_label": metrics.per_label(targets, predicted, labels)}


def write_evaluation(evaluation: Evaluation, folder: Path, title: str,
                     log_mel: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write metrics.json, answers.csv, confusion.csv and .png, curves.png, mistakes.html; an older one is replaced.

    Args:
        evaluation: what to write.
        folder: of the reports.
        title: of the page.
        log_mel: [T] -> [M, F], how the model sees a waveform.
    Raises:
        FileExistsError: if the folder holds something else.
    """
    check_replaceable(folder, "confusion.csv")
    labels, predicted = evaluation.labels, evaluation.predicted
    counts = metrics.confusion(evaluation.targets, predicted, len(labels))
    curves = metrics.keyword_curves(evaluation.targets, evaluation.probabilities, labels)
    with atomic_folder(folder) as new:
        (new / "metrics.json").write_text(json.dumps(evaluation.metrics, indent=2) + "\n", encoding="utf-8")
        answers = pd.DataFrame({"path": evaluation.names, "spoken": np.array(labels.names)[evaluation.targets],
                                "answered": np.array(labels.names)[predicted],
                                "confidence": evaluation.probabilities[np.arange(len(predicted)), predicted]})
        answers.to_csv(new / "answers.csv", index=False)
        table = pd.DataFrame(counts, index=list(labels), columns=labels.columns(["spoken"]))
        table.to_csv(new / "confusion.csv", index_label="spoken")
        plots.confusion_figure(counts, labels.names).savefig(new / "confusion.png", dpi=110)
        if curves:
            plots.curves_figure(curves).savefig(new / "curves.png", dpi=110)
        write_page(new / "mistakes.html", title, list(_sections(evaluation, counts, log_mel)))


def _sections(evaluation: Evaluation, counts: np.ndarray,
              log_mel: Callable[[np.ndarray], np.ndarray]) -> Iterator[Section]:
    yield Section("Summary", summary_table(evaluation))
    yield Section("Confusion", figures=[plots.confusion_figure(counts, evaluation.labels.names)])
    yield Section("The surest mistakes",
                  f"{len(evaluation.mistakes)} clips that were answered wrongly, the surest first.",
                  figures=[plots.log_mel_figure(log_mel(mistake.window), f"{mistake.name}\nspoken {mistake.spoken}, "
                                                f"answered {mistake.answered} ({mistake.confidence:.0%})")
                           for mistake in evaluation.mistakes])
    if evaluation.errors:
        yield Section("Unreadable clips", "\n".join(evaluation.errors))


def summary_table(evaluation: Evaluation) -> str:
    """The figures as text that a terminal shows well."""
    figures = evaluation.metrics
    lines = [f"{'label':<12} {'precision':>9} {'recall':>7} {'F1':>7} {'clips':>6}"]
    lines += [f"{label:<12} {row['precision']:>9.2%} {row['recall']:>7.2%} {row['f1']:>7.2%} {row['clips']:>6}"
              for label, row in figures["per_label"].items()]
    lines.append(f"accuracy {figures['accuracy']:.2%}, macro-F1 {figures['macro_f1']:.2%} over {figures['clips']:,} "
                 f"clips; calibration error {figures['expected_calibration_error']:.2%}")
    point = figures["one_percent_false_accepts"]
    if point:
        lines.append(f"on these clips, threshold {point['threshold']:.3f} keeps false accepts at "
                     f"{point['false_accept_rate']:.2%} and finds {point['recall']:.2%} of the keywords")
    if figures["unreadable"]:
        lines.append(f"{figures['unreadable']:,} clips could not be read")
    if figures["unlabelled"]:
        lines.append(f"{figures['unlabelled']:,} rows without a label were left out")
    return "\n".join(lines)
