"""The evaluation job: a model against labelled clips -> metrics, pictures, the worst mistakes."""
from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence, cast

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from kws import metrics, plots
from kws.atomic import atomic_folder, check_replaceable
from kws.audio import decode
from kws.data.sampling import ClipDataset
from kws.data.store import PreparedStore
from kws.errors import AudioError, DataError, ModelError
from kws.labels import LabelSet
from kws.modeling import KwsForAudioClassification
from kws.postprocess import check_logits, probabilities
from kws.report import Section, write_page
from kws.window import fit

logger = logging.getLogger(__name__)

_BATCH_SIZE = 250
_MISTAKES = 20


@dataclass(frozen=True)
class LabelledClips:
    """Clips to evaluate on.

    Args:
        names: [N] what to call each clip.
        waveforms: [N, T] float32.
        targets: [N] label indices.
        errors: messages of clips that could not be read; they count in no metric but are reported.
    """

    names: Sequence[str]
    waveforms: torch.Tensor
    targets: np.ndarray
    errors: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """What a model said: `probabilities` [N, C] float64 for `clips`, and the figures that follow."""

    clips: LabelledClips
    labels: LabelSet
    probabilities: np.ndarray
    metrics: dict[str, Any]

    @property
    def predicted(self) -> np.ndarray:
        """[N] label indices."""
        return self.probabilities.argmax(axis=1)


def load_model(folder: Path) -> KwsForAudioClassification:
    """Load a model folder for inference; raises ModelError if it is none."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json; expected a model folder that scripts/train.py wrote")
    disable_progress_bar()  # of transformers, for every file it reads
    try:
        return KwsForAudioClassification.from_pretrained(folder, local_files_only=True).eval()
    except Exception as error:  # transformers, safetensors and torch each raise their own for a damaged folder
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder}: cannot be loaded ({reason}); train again") from error


def labels_of(model: KwsForAudioClassification) -> LabelSet:
    """Read a model's labels."""
    return LabelSet.from_id2label(cast("dict[int, str]", model.config.id2label))


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
    batch = dataset.__getitems__(range(len(dataset)))
    paths = store.manifest["path"].to_numpy()[dataset.rows].tolist()
    names = paths + [f"background noise {number}" for number in range(len(dataset) - len(paths))]
    return LabelledClips(names, batch["input_values"], batch["labels"].numpy())


def clips_of_manifest(manifest: Path, model: KwsForAudioClassification) -> LabelledClips:
    """The clips of a CSV with the columns `path` (relative to the CSV) and `label`, as this model hears them.

    Words that are not labels of the model count as `_unknown_`.

    Raises:
        DataError: if the file cannot be read, lacks a column, or names no readable clip.
    """
    table, labels = _read_manifest(manifest), labels_of(model)
    waveforms, rows, errors = [], [], []
    for row, path in enumerate(tqdm(table["path"], desc="reading", unit="clip", disable=None)):
        try:
            waveform = decode(manifest.parent / path, model.config.sample_rate, name=path)
            waveforms.append(fit(waveform, model.config.num_samples))
            rows.append(row)
        except AudioError as error:
            errors.append(str(error))
    if not rows:
        first = f"; {errors[0]}" if errors else ""
        raise DataError(f"{manifest}: none of {len(table)} clips can be read{first}", "no_clips")
    table = table.iloc[rows]
    targets = np.array([labels.index(labels.label_of(label)) for label in table["label"]])
    return LabelledClips(table["path"].tolist(), torch.from_numpy(np.stack(waveforms)), targets, errors)


def _read_manifest(manifest: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(manifest, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{manifest}: no such file; expected a CSV with the columns path and label") from None
    except ValueError as error:
        raise DataError(f"{manifest}: not readable as CSV ({str(error).splitlines()[0]})") from None
    missing = {"path", "label"} - set(table.columns)
    if missing:
        raise DataError(f"{manifest}: no column {' and '.join(sorted(missing))}; found {', '.join(table.columns)}")
    return table


@torch.inference_mode()
def predict_logits(model: KwsForAudioClassification, waveforms: torch.Tensor) -> np.ndarray:
    """Run a model over clips in batches: [N, T] -> [N, C] float32."""
    batches = tqdm(waveforms.split(_BATCH_SIZE), desc="evaluating", unit="batch", disable=None)
    return torch.cat([model(batch.to(model.device)).logits.cpu() for batch in batches]).numpy()


def evaluate(model: KwsForAudioClassification, clips: LabelledClips) -> Evaluation:
    """Measure a model on clips.

    Raises:
        ModelError: "bad_logits" if the model answers NaN.
    """
    labels = labels_of(model)
    logits = predict_logits(model, clips.waveforms)
    check_logits(logits, labels, len(clips.targets))
    rows = probabilities(logits)
    return Evaluation(clips, labels, rows, _figures(clips, rows, labels))


def _figures(clips: LabelledClips, rows: np.ndarray, labels: LabelSet) -> dict[str, Any]:
    """The content of metrics.json."""
    targets, predicted = clips.targets, rows.argmax(axis=1)
    point = metrics.threshold_for_false_accepts(targets, rows, labels)
    curves = metrics.keyword_curves(targets, rows, labels)
    return {"clips": len(targets), "unreadable": len(clips.errors),
            **metrics.headline(targets, predicted),
            "expected_calibration_error": metrics.expected_calibration_error(targets, rows),
            "keyword_auc": curves.get("auc"),
            "one_percent_false_accepts": asdict(point) if point else None,
            "per_label": metrics.per_label(targets, predicted, labels)}


def write_evaluation(evaluation: Evaluation, model: KwsForAudioClassification, folder: Path, title: str) -> None:
    """Write metrics.json, answers.csv, confusion.csv and .png, curves.png, mistakes.html; an older one is replaced.

    Raises:
        FileExistsError: if the folder holds something else.
    """
    check_replaceable(folder, "confusion.csv")
    labels, targets = evaluation.labels, evaluation.clips.targets
    counts = metrics.confusion(targets, evaluation.predicted, len(labels))
    curves = metrics.keyword_curves(targets, evaluation.probabilities, labels)
    with atomic_folder(folder) as new:
        (new / "metrics.json").write_text(json.dumps(evaluation.metrics, indent=2) + "\n", encoding="utf-8")
        answers = pd.DataFrame({"path": evaluation.clips.names, "spoken": np.array(labels.names)[targets],
                                "answered": np.array(labels.names)[evaluation.predicted],
                                "confidence": evaluation.probabilities.max(axis=1)})
        answers.to_csv(new / "answers.csv", index=False)
        table = pd.DataFrame(counts, index=list(labels), columns=list(labels))
        table.to_csv(new / "confusion.csv", index_label="spoken")
        plots.confusion_figure(counts, labels.names).savefig(new / "confusion.png", dpi=110)
        if curves:
            plots.curves_figure(curves).savefig(new / "curves.png", dpi=110)
        write_page(new / "mistakes.html", title, list(_sections(evaluation, model, counts)))


def _sections(evaluation: Evaluation, model: KwsForAudioClassification, counts: np.ndarray) -> Iterator[Section]:
    yield Section("Summary", summary_table(evaluation))
    yield Section("Confusion", figures=[plots.confusion_figure(counts, evaluation.labels.names)])
    worst = metrics.worst_mistakes(evaluation.clips.targets, evaluation.probabilities, _MISTAKES)
    yield Section("The surest mistakes", f"{len(worst)} clips that were answered wrongly, the surest first.",
                  figures=[_mistake_figure(evaluation, model, int(row)) for row in worst])
    if evaluation.clips.errors:
        yield Section("Unreadable clips", "\n".join(evaluation.clips.errors))


@torch.inference_mode()
def _mistake_figure(evaluation: Evaluation, model: KwsForAudioClassification, row: int) -> Any:
    log_mel = model.features(evaluation.clips.waveforms[row:row + 1].to(model.device))[0, 0].cpu().numpy()
    names, answer = evaluation.labels.names, evaluation.predicted[row]
    title = (f"{evaluation.clips.names[row]}\nspoken {names[evaluation.clips.targets[row]]}, answered {names[answer]} "
             f"({evaluation.probabilities[row, answer]:.0%})")
    return plots.log_mel_figure(log_mel, title)


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
        lines.append(f"{figures['unreadable']} clips could not be read")
    return "\n".join(lines)
