"""Cross-validation on few recordings: each speaker, or each recording, is left out of training in turn and answered."""
from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Iterator

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from kws.model.labels import UNKNOWN
from kws.training.own_words import OwnWords
from kws.training.teaching import Lesson, fit

_MOST_FOLDS = 10
_CURVE, _CURVE_FOLDS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100), 3  # recordings of a keyword
_VARIATIONS = 4  # of a recording: there are many fits here, and they need no more

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fold:
    """Rows of recordings and of the body's other words: those to train on, and those left out."""

    learned: np.ndarray
    left: np.ndarray
    others: np.ndarray
    others_left: np.ndarray


def leave_out(lesson: Lesson, table: pd.DataFrame, refused: float, named: bool = True) -> OwnWords:
    """Answer every recording by a classifier that was trained without it.

    Args:
        lesson: all recordings, in the order of the table.
        table: `path`, `label`, `word`, `speaker` of every recording.
        refused: share of other words to refuse; it decides how much rarer than in training keywords are assumed to be.
        named: whether `speaker` is known everywhere; where it is not, each recording counts as one of its own.
    """
    lesson = replace(lesson, embeddings=lesson.embeddings[:, :_VARIATIONS])
    is_keyword = (lesson.targets < len(lesson.labels.keywords)) & lesson.asked
    # a keyword of which the only speaker is left out could not be asked
    by_speaker = named and bool(table[is_keyword].groupby("label")["speaker"].nunique().min() > 1)
    groups = table["speaker" if by_speaker else "path"].to_numpy()
    logits = np.full((len(table), len(lesson.labels)), np.nan)
    others = np.full((len(lesson.others.words), len(lesson.labels)), np.nan)
    for fold in tqdm(list(_folds(lesson, groups, _MOST_FOLDS)), "left out in turn", unit="fit", disable=None):
        classifier = fit(lesson.of(fold.learned, fold.others))
        logits[fold.left] = classifier.logits(lesson.embeddings[fold.left, 0])
        others[fold.others_left] = classifier.logits(lesson.others.words[fold.others_left])
    answered = ~np.isnan(logits).any(axis=1)
    refusable = np.concatenate([logits[answered & (lesson.targets == lesson.labels.index(UNKNOWN))], _answered(others)])
    if not len(refusable):
        logger.warning("nothing could be left out of training, so how rare keywords are is not calibrated: expect more "
                       "other words taken for keywords; record each word at least twice")
    rarity = _rarity(refusable, lesson, refused)
    taken = _rarer(refusable, lesson, rarity).argmax(axis=1) < len(lesson.labels.keywords)
    answers = _answers(table, lesson, _rarer(logits, lesson, rarity))
    asked = answered & is_keyword
    return OwnWords(
        lesson.labels.keywords, answers[answered],
        share_of(int((answers["answer"] == answers["label"])[asked].sum()), int(asked.sum())) if asked.any() else None,
        float(taken.mean()) if len(taken) else None, rarity, named, by_speaker, bool(lesson.synthetic.all()),
        _curve(lesson, groups, refused))


def share_of(count: int, total: int) -> tuple[float, float, float]:
    """Give a share, and its 95 % interval (E. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return count / total, float(interval.low), float(interval.high)


def _folds(lesson: Lesson, groups: np.ndarray, most: int) -> Iterator[_Fold]:
    """Leave out groups in turn, several at once if there are more than `most`, and as many random parts of other words.

    Synthetic voices are never left out if people speak, too.
    """
    asked = np.flatnonzero(lesson.asked)
    count = min(most, len(set(groups[asked])))
    if count < 2:
        return
    parts = np.random.default_rng(0).integers(count, size=len(lesson.others.words))
    for number, (_, places) in enumerate(GroupKFold(count).split(asked, groups=groups[asked])):
        left = asked[places]
        learned = np.setdiff1d(np.arange(len(groups)), left)
        if set(range(len(lesson.labels.keywords))) <= set(lesson.targets[learned]):
            yield _Fold(learned, left, np.flatnonzero(parts != number), np.flatnonzero(parts == number))


def _answered(logits: np.ndarray) -> np.ndarray:
    """Keep the rows that were answered: [N, C] -> [M, C]."""
    return logits[~np.isnan(logits).any(axis=1)]


def _rarity(others: np.ndarray, lesson: Lesson, refused: float) -> float:
    """Find how much rarer keywords must be assumed to be to refuse such a share of other words, [N, C] logits."""
    if not len(others):
        return 1.0
    count = len(lesson.labels.keywords)
    return float(np.exp(np.quantile(others[:, :count].max(axis=1) - others[:, count:].max(axis=1), refused)))


def _rarer(logits: np.ndarray, lesson: Lesson, rarity: float) -> np.ndarray:
    """Assume that keywords are rarer: [N, C] logits -> same, see `kws.training.prior`."""
    return logits + np.log(rarity) * (np.arange(len(lesson.labels)) >= len(lesson.labels.keywords))


def _answers(table: pd.DataFrame, lesson: Lesson, logits: np.ndarray) -> pd.DataFrame:
    probabilities = softmax(np.nan_to_num(logits), axis=1)
    return table[["path", "label", "word", "speaker"]].assign(
        answer=[lesson.labels.names[index] for index in probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        own=probabilities[np.arange(len(table)), lesson.targets])


def _curve(lesson: Lesson, groups: np.ndarray, refused: float) -> pd.DataFrame:
    """Measure the share of keywords found by classifiers trained on fewer recordings of each."""
    num_keywords = len(lesson.labels.keywords)
    folds = list(_folds(lesson, groups, _CURVE_FOLDS))
    fewest = min((np.bincount(lesson.targets[fold.learned])[:num_keywords].min() for fold in folds), default=0)
    rows = []
    for count in (count for count in _CURVE if count <= fewest):
        right = []
        for fold in folds:
            classifier = fit(lesson.of(_first(lesson, fold.learned, count), fold.others))
            rarity = _rarity(classifier.logits(lesson.others.words[fold.others_left]), lesson, refused)
            left = fold.left[lesson.targets[fold.left] < num_keywords]
            answers = _rarer(classifier.logits(lesson.embeddings[left, 0]), lesson, rarity).argmax(axis=1)
            right.append(answers == lesson.targets[left])
        if (answered := np.concatenate(right)).size:
            rows.append((count, float(answered.mean())))
    return pd.DataFrame(rows, columns=["recordings", "found"])


def _first(lesson: Lesson, rows: np.ndarray, count: int) -> np.ndarray:
    """Keep `count` random rows of every keyword, and all other rows."""
    order = np.random.default_rng(0).permutation(rows)
    targets = lesson.targets[order]
    rank = pd.Series(targets).groupby(targets).cumcount().to_numpy()
    return np.sort(order[(rank < count) | (targets >= len(lesson.labels.keywords))])
