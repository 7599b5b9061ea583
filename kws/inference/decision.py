"""From logits to an answer: the only place that decides."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

import numpy as np

from kws.errors import ModelError
from kws.model.labels import UNKNOWN, LabelSet


@dataclass(frozen=True)
class Detection:
    """A word that was heard in running sound; times in seconds from its start.

    Args:
        word: the keyword.
        start_seconds: where the word begins, about.
        end_seconds: where it ends, about.
        time_seconds: of the last sample that was needed to know.
        confidence: 0..1, the smoothed probability then.
        confidences: of every label, likewise; they sum to 1.
    """

    word: str
    start_seconds: float
    end_seconds: float
    time_seconds: float
    confidence: float
    confidences: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    def as_record(self) -> dict[str, Any]:
        """Put it into the shape that programs get it in (JSON lines, HTTP, tables)."""
        return {"word": self.word, "start_s": round(self.start_seconds, 3), "end_s": round(self.end_seconds, 3),
                "time_s": round(self.time_seconds, 3), "confidence": self.confidence}


@dataclass(frozen=True)
class Prediction:
    """The answer for one clip or recording.

    Args:
        label: the most probable label, or `_unknown_` where a keyword stays below the threshold; of a recording that
            was searched for keywords the surest of them, or `_unknown_` or `_silence_` where none was found.
        confidence: 0..1, the probability of `label`.
        confidences: the probability of every label, in the model's order; they sum to 1.
        start_seconds: where in the recording the window, or the keyword, begins that was answered for.
        seconds: length of the recording, as decoded.
        detections: every keyword of a recording that was searched, by time; None of one that is a clip.
    """

    label: str
    confidence: float
    confidences: dict[str, float]
    start_seconds: float = 0.0
    seconds: float = 0.0
    detections: Optional[tuple[Detection, ...]] = None


def _most_confident(confidences: dict[str, float], top_k: Optional[int] = None) -> dict[str, float]:
    """Keep the `top_k` most probable labels, the most probable first; all, in the model's order, for None."""
    if top_k is None:
        return confidences
    return dict(sorted(confidences.items(), key=lambda item: -item[1])[:top_k])


def as_record(prediction: Prediction, top_k: Optional[int] = None) -> dict[str, Any]:
    """Put a prediction into the shape that programs get it in (JSON lines, HTTP)."""
    record = {"label": prediction.label, "confidence": prediction.confidence,
              "confidences": _most_confident(prediction.confidences, top_k), "start_seconds": prediction.start_seconds}
    if prediction.detections is not None:
        record["detections"] = [detection.as_record() for detection in prediction.detections]
    return record


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row: [B, C] -> [B, C] float64, rows sum to 1; safe for logits of any finite size."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def choose(confidences: np.ndarray, labels: LabelSet, threshold: float) -> np.ndarray:
    """Pick a label index for each row of probabilities.

    The most probable label wins; on an exact tie the one that comes first in the label set. A keyword below
    `threshold` becomes `_unknown_`.

    Args:
        confidences: [B, C], rows sum to 1.
        labels: C labels.
        threshold: 0..1; 0 accepts every keyword.
    Returns:
        [B] int64 indices.
    """
    best = confidences.argmax(axis=1)
    refused = (best < len(labels.keywords)) & (confidences.max(axis=1) < threshold)
    return np.where(refused, labels.index(UNKNOWN), best)


def decide(logits: np.ndarray, labels: LabelSet, threshold: float = 0.0) -> list[Prediction]:
    """Turn a batch of logits into predictions.

    Args:
        logits: [B, C] finite.
        labels: C labels, in the model's order.
        threshold: 0..1, the least confidence of a keyword.
    Returns:
        B predictions, in order.
    Raises:
        ModelError: "bad_logits" if the shape does not fit the labels or a logit is NaN or infinite.
        ValueError: if the threshold is outside 0..1.
    """
    check_logits(logits, labels)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold: found {threshold}; expected 0 to 1")
    rows = probabilities(logits)
    return [_prediction(row, int(index), labels) for row, index in zip(rows, choose(rows, labels, threshold))]


def check_logits(logits: np.ndarray, labels: LabelSet, count: Optional[int] = None) -> None:
    """Raise ModelError unless logits are finite, [B, C] for these labels, and B is `count` where given."""
    if logits.ndim != 2 or logits.shape[1] != len(labels) or count not in (None, len(logits)):
        rows = "B" if count is None else count
        raise ModelError(f"logits of shape {list(logits.shape)}; expected [{rows}, {len(labels)}]", "bad_logits")
    if not np.isfinite(logits).all():
        raise ModelError(f"{np.count_nonzero(~np.isfinite(logits))} logits are NaN or infinite", "bad_logits")


def _prediction(row: np.ndarray, index: int, labels: LabelSet) -> Prediction:
    confidences = {label: float(value) for label, value in zip(labels, row)}
    return Prediction(labels.names[index], float(row[index]), confidences)
