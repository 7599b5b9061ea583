"""Metrics on arrays: [N] label indices against [N, C] probabilities."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (accuracy_score, confusion_matrix, det_curve, f1_score, precision_recall_fscore_support,
                             roc_auc_score, roc_curve)

from kws.model.labels import LabelSet

_BINS = 15  # of confidence, as in the paper that `expected_calibration_error` follows


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold on a keyword's confidence does.

    Args:
        threshold: 0..1, the least confidence that a keyword is answered with.
        false_accept_rate: share of `_unknown_` and `_silence_` clips answered with a keyword.
        recall: share of keyword clips answered with their own keyword.
    """

    threshold: float
    false_accept_rate: float
    recall: float


def headline(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 over the labels that occur, of [N] predicted against [N] target indices."""
    present = sorted(set(targets.tolist()))
    return {"accuracy": float(accuracy_score(targets, predicted)),
            "macro_f1": float(f1_score(targets, predicted, labels=present, average="macro", zero_division=0.0))}


def keyword_recall(targets: np.ndarray, predicted: np.ndarray, num_keywords: int) -> float:
    """Mean share of a keyword's clips that were answered with it, over the keywords that occur; 0 where none does."""
    present = [keyword for keyword in range(num_keywords) if (targets == keyword).any()]
    return float(np.mean([(predicted[targets == keyword] == keyword).mean() for keyword in present] or [0.0]))


def per_label(targets: np.ndarray, predicted: np.ndarray, labels: LabelSet) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of clips of every label."""
    columns = precision_recall_fscore_support(targets, predicted, labels=range(len(labels)), zero_division=0.0)
    return {label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "clips": int(clips)}
            for label, precision, recall, f1, clips in zip(labels, *columns)}


def confusion(targets: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """[C, C] counts: rows are targets, columns predictions."""
    return np.asarray(confusion_matrix(targets, predicted, labels=range(num_labels)))


def keyword_scores(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """How much each clip sounds like some keyword: the best keyword's probability, [N, C] -> [N]."""
    return probabilities[:, :len(labels.keywords)].max(axis=1)


def keyword_curves(targets: np.ndarray, probabilities: np.ndarray, labels: LabelSet) -> dict[str, Any]:
    """ROC and DET curves of keyword against everything else, by the best keyword's probability.

    Returns:
        `false_accepts`, `recall` (ROC), `det_false_accepts`, `misses` (DET), each [K], and `auc`; empty where the clips
        hold only one of the two kinds.
    """
    is_keyword = targets < len(labels.keywords)
    if is_keyword.all() or not is_keyword.any():
        return {}
    scores = keyword_scores(probabilities, labels)
    false_accepts, recall, _ = roc_curve(is_keyword, scores)
    det_false_accepts, misses, _ = det_curve(is_keyword, scores)
    return {"false_accepts": false_accepts, "recall": recall, "det_false_accepts": det_false_accepts,
            "misses": misses, "auc": float(roc_auc_score(is_keyword, scores))}


def expected_calibration_error(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence, weighted by clips.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence)
    return float(np.abs(gaps).sum() / len(targets))


def threshold_for_false_accepts(targets: np.ndarray, probabilities: np.ndarray, labels: LabelSet,
                                rate: float = 0.01) -> OperatingPoint | None:
    """Find the lowest threshold at which at most `rate` of the non-keyword clips are answered with a keyword.

    Returns:
        the operating point, or None where the clips hold no `_unknown_` or `_silence_` or no keyword. Where so many
        false keywords have a confidence of 1 that no threshold refuses enough, the threshold is 1, with its rate.
    """
    num_keywords = len(labels.keywords)
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    accepted = np.where(best < num_keywords, confidence, -1.0)
    is_keyword = targets < num_keywords
    if is_keyword.all() or not is_keyword.any():
        return None
    rest = np.sort(accepted[~is_keyword])[::-1]
    allowed = int(rate * len(rest))
    first_refused = max(rest[allowed], 0.0) if allowed < len(rest) else 0.0
    threshold = min(float(np.nextafter(first_refused, 2.0)), 1.0) if first_refused > 0 else 0.0
    hits = is_keyword & (best == targets) & (accepted >= threshold)
    return OperatingPoint(threshold, float((rest >= threshold).mean()), float(hits.sum() / is_keyword.sum()))


def worst_mistakes(targets: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """Rows that were answered wrongly, the surest of them first: at most `count` indices."""
    wrong = np.flatnonzero(predicted != targets)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:count]
