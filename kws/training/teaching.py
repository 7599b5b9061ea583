"""Own words from few recordings: a classifier on the embeddings of a body that knows speech.

The body has learned to tell thousands of words apart and stays as it is. Logistic regression separates its embeddings
of the recordings, each augmented many times, from the embeddings of other words, which come with the body. That takes
seconds, so `kws.training.left_out` can leave out every speaker in turn.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional, Sequence, cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from kws.data.noise_bank import NoiseBank
from kws.model.labels import SILENCE, UNKNOWN, LabelSet
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.streaming import RECENT, frame_embeddings
from kws.model.window import FULL_SCALE
from kws.training.augment import Augmenter
from kws.training.body import Others

# Chosen on words that the body had not learned (docs/experiments.md).
_STRENGTH = 1000.0  # of the fit against the regularisation, scikit-learn's C
_SYNTHETIC_SHARE = 0.2
_MOST_ITERATIONS = 300
_CLIPS_AT_A_TIME = 64
_PIECES, _PIECE_SECONDS, _APART = 60, 4, 8  # of talk, of which a moment every so many rows is taken


@dataclass(frozen=True)
class Classifier:
    """The last layer of a network: `embeddings @ weight.T + bias` are logits; weight [C, K], bias [C]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """[N, K] -> [N, C]."""
        return np.asarray(embeddings @ self.weight.T + self.bias)


@dataclass(frozen=True)
class Lesson:
    """What a classifier is trained on.

    Args:
        embeddings: [N, A, K] of N recordings: first as they are, then augmented A - 1 times.
        targets: [N] label indices.
        synthetic: [N] bool, whether a synthetic voice speaks.
        labels: of the model.
        others: other words and silence, which come with the body.
        talk: [M, K] moments of the user's own recordings without a keyword; there may be none.
    """

    embeddings: np.ndarray
    targets: np.ndarray
    synthetic: np.ndarray
    labels: LabelSet
    others: Others
    talk: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """[N] bool: recordings of people; all of them if only synthetic voices speak."""
        return ~self.synthetic | self.synthetic.all()

    def of(self, rows: np.ndarray, others: np.ndarray) -> Lesson:
        """Keep some of the recordings, and some of the body's other words."""
        return replace(self, embeddings=self.embeddings[rows], targets=self.targets[rows],
                       synthetic=self.synthetic[rows],
                       others=self.others.keep(others))


@torch.inference_mode()
def embed(model: KwsForAudioClassification, waveforms: np.ndarray, augmenter: Augmenter, noise: Optional[NoiseBank],
          variations: int, seed: int) -> np.ndarray:
    """Embed recordings with a body, as they are and augmented.

    Args:
        model: holds the body.
        waveforms: [N, T] int16.
        augmenter: makes the variations.
        noise: mixed into them; None mixes in nothing.
        variations: A - 1.
        seed: of the variations.
    Returns:
        [N, A, K] float32; the recordings as they are come first.
    """
    network, generator = cast(FoldedMelNetwork, model.network), torch.Generator().manual_seed(seed)
    parts = []
    for start in tqdm(range(0, len(waveforms), _CLIPS_AT_A_TIME), "recordings", unit="batch", disable=None):
        clips = torch.from_numpy(waveforms[start:start + _CLIPS_AT_A_TIME].astype(np.float32) / FULL_SCALE)
        varied = [augmenter.spectrograms(clips, noise.draw if noise else None, model.features, generator)
                  for _ in range(variations)]
        parts.append(torch.stack([network.embed(features) for features in (model.features(clips), *varied)], dim=1))
    return torch.cat(parts).numpy()


@torch.inference_mode()
def embed_moments(model: KwsForAudioClassification, sound: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Embed random moments of running sound with a body.

    Args:
        model: holds the body.
        sound: recordings, [T] int16 each; those under a second are passed over.
        seed: of the draws.
    Returns:
        [M, K], about six moments for every second, a thousand at most.
    """
    network, rng, rate = cast(FoldedMelNetwork, model.network), np.random.default_rng(seed), model.config.sample_rate
    long = [recording for recording in sound if len(recording) >= rate]
    size, seconds = _PIECE_SECONDS * rate, np.array([len(recording) / rate for recording in long])
    rows = [torch.empty(0, cast(torch.nn.Linear, network.head[-1]).in_features)]
    count = min(_PIECES, math.ceil(seconds.sum() / _PIECE_SECONDS))
    for index in rng.choice(len(long), count, p=seconds / seconds.sum()) if long else ():
        start = int(rng.integers(max(len(long[index]) - size, 0) + 1))
        piece = torch.from_numpy(long[index][start:start + size].astype(np.float32) / FULL_SCALE)
        rows.append(frame_embeddings(network, model.features(piece[None]))[0, RECENT:-RECENT:_APART])
    return torch.cat(rows).numpy()


def fit(lesson: Lesson) -> Classifier:
    """Fit logistic regression in which every keyword has the same weight, and other words that of all keywords."""
    count, variations, size = lesson.embeddings.shape
    others, labels = lesson.others, lesson.labels
    targets = np.concatenate([np.repeat(lesson.targets, variations),
                              np.full(len(others.words), labels.index(UNKNOWN)),
                              np.full(len(others.silence), labels.index(SILENCE)),
                              np.full(len(lesson.talk), labels.index(UNKNOWN))])
    embeddings = np.concatenate([lesson.embeddings.reshape(-1, size), others.words, others.silence, lesson.talk])
    weights = _weights(targets, np.concatenate([np.repeat(lesson.synthetic, variations),
                                                np.zeros(len(targets) - count * variations, dtype=bool)]), labels)
    with threadpool_limits(1, "blas"):  # for such small products, threads wait for each other ten times as long
        regression = LogisticRegression(C=_STRENGTH, max_iter=_MOST_ITERATIONS).fit(embeddings, targets, weights)
    return Classifier(regression.coef_.astype(np.float32), regression.intercept_.astype(np.float32))


def _weights(targets: np.ndarray, synthetic: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Weigh rows so that each keyword and silence have the same sum, other words that of all keywords; the total is 1.

    Where people and synthetic voices say a word, the latter have `_SYNTHETIC_SHARE` of its weight.
    """
    share = np.ones(len(labels))
    share[labels.index(UNKNOWN)] = len(labels.keywords)
    count = [np.bincount(targets[synthetic == kind], minlength=len(labels)) for kind in (False, True)]
    of_voices = np.select([count[1] == 0, count[0] == 0], [0.0, 1.0], _SYNTHETIC_SHARE)
    each = [share * part / np.maximum(number, 1) for part, number in zip((1 - of_voices, of_voices), count)]
    return np.where(synthetic, each[1][targets], each[0][targets]) / share.sum()


def write_classifier(classifier: Classifier, model: KwsForAudioClassification) -> None:
    """Replace the classifier of a network by a fitted one."""
    layer = cast(torch.nn.Linear, cast(FoldedMelNetwork, model.network).head[-1])
    layer.weight.data = torch.from_numpy(classifier.weight)
    layer.bias.data = torch.from_numpy(classifier.bias)
