"""Own words from few recordings: a classifier on a body that knows speech, and how sure one can be of it.

A body that has learned to tell thousands of words apart need not learn anew for a few more: what it makes of the
recordings, each varied many times, is told apart by logistic regression, from what it makes of words that are none of
them and that come with it. That takes seconds, so every speaker can be left out in turn to see how the others' words
carry over.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from kws.data.noise_bank import NoiseBank
from kws.model.labels import SILENCE, UNKNOWN, LabelSet
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.window import FULL_SCALE
from kws.training.augment import Augmenter
from kws.training.body import Others

# Chosen on words that the body had not learned (docs/experiments.md).
_STRENGTH = 10.0  # of the fit against the regularisation, scikit-learn's C
_SYNTHETIC_SHARE = 0.2
_EVENNESS = 0.02  # share of the mean variance that is added to each
_MOST_ITERATIONS = 300
_CLIPS_AT_A_TIME = 64


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
    """What a classifier learns from.

    Args:
        embeddings: [N, A, K] of N recordings, as they are and varied in A - 1 ways.
        targets: [N] label indices.
        synthetic: [N] bool, whether a synthetic voice speaks.
        labels: of the model.
        others: the body's own.
    """

    embeddings: np.ndarray
    targets: np.ndarray
    synthetic: np.ndarray
    labels: LabelSet
    others: Others

    @property
    def asked(self) -> np.ndarray:
        """[N] bool: what people say; where only synthetic voices speak, what they say."""
        return ~self.synthetic | self.synthetic.all()

    def of(self, rows: np.ndarray, others: np.ndarray) -> Lesson:
        """Keep some of the recordings, and some of the body's other words."""
        return replace(self, embeddings=self.embeddings[rows], targets=self.targets[rows],
                       synthetic=self.synthetic[rows],
                       others=self.others.keep(others))


@torch.inference_mode()
def embed(model: KwsForAudioClassification, waveforms: np.ndarray, augmenter: Augmenter, noise: Optional[NoiseBank],
          variations: int, seed: int) -> np.ndarray:
    """Hear recordings with a body, as they are and varied.

    Args:
        model: whose body it is.
        waveforms: [N, T] int16.
        augmenter: varies them.
        noise: that it mixes in.
        variations: A - 1.
        seed: of the variations.
    Returns:
        [N, A, K] float32; what is not varied comes first.
    """
    network, generator = cast(FoldedMelNetwork, model.network), torch.Generator().manual_seed(seed)
    parts = []
    for start in tqdm(range(0, len(waveforms), _CLIPS_AT_A_TIME), "recordings", unit="batch", disable=None):
        clips = torch.from_numpy(waveforms[start:start + _CLIPS_AT_A_TIME].astype(np.float32) / FULL_SCALE)
        varied = [augmenter.spectrograms(clips, noise.draw if noise else None, model.features, generator)
                  for _ in range(variations)]
        parts.append(torch.stack([network.embed(features) for features in (model.features(clips), *varied)], dim=1))
    return torch.cat(parts).numpy()


def fit(lesson: Lesson) -> Classifier:
    """Fit logistic regression in which every keyword counts alike, and other words as much as all keywords.

    Embeddings are compared in units of how much the voices that say one word differ (within-class covariance
    normalisation: A. Hatch, S. Kajarekar, A. Stolcke, Interspeech 2006), so that the fit prefers what carries over to
    other voices.
    """
    count, variations, size = lesson.embeddings.shape
    others, labels = lesson.others, lesson.labels
    targets = np.concatenate([np.repeat(lesson.targets, variations),
                              np.full(len(others.words), labels.index(UNKNOWN)),
                              np.full(len(others.silence), labels.index(SILENCE))])
    embeddings = np.concatenate([lesson.embeddings.reshape(-1, size), others.words, others.silence])
    middle, scale = others.words.mean(axis=0), whitening(others.within)
    regression = LogisticRegression(C=_STRENGTH, max_iter=_MOST_ITERATIONS)
    weights = _weights(targets, np.concatenate([np.repeat(lesson.synthetic, variations),
                                                np.zeros(len(targets) - count * variations, dtype=bool)]), labels)
    regression.fit((embeddings - middle) @ scale, targets, weights)
    weight = regression.coef_ @ scale.T
    return Classifier(weight.astype(np.float32), (regression.intercept_ - weight @ middle).astype(np.float32))


def whitening(within: np.ndarray) -> np.ndarray:
    """Find the [K, K] that turns this covariance, somewhat evened out, into that of independent numbers."""
    size = len(within)
    return np.linalg.cholesky(np.linalg.inv(within + _EVENNESS * np.trace(within) / size * np.eye(size)))


def _weights(targets: np.ndarray, synthetic: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Weigh rows so that each keyword and silence count alike, other words as much as all keywords; they sum to 1.

    Where people and synthetic voices say a word, the latter have `_SYNTHETIC_SHARE` of its weight.
    """
    share = np.ones(len(labels))
    share[labels.index(UNKNOWN)] = len(labels.keywords)
    count = [np.bincount(targets[synthetic == kind], minlength=len(labels)) for kind in (False, True)]
    of_voices = np.select([count[1] == 0, count[0] == 0], [0.0, 1.0], _SYNTHETIC_SHARE)
    each = [share * part / np.maximum(number, 1) for part, number in zip((1 - of_voices, of_voices), count)]
    return np.where(synthetic, each[1][targets], each[0][targets]) / share.sum()


def write_classifier(classifier: Classifier, model: KwsForAudioClassification) -> None:
    """Put a fitted classifier in the place of a network's own."""
    layer = cast(torch.nn.Linear, cast(FoldedMelNetwork, model.network).head[-1])
    layer.weight.data = torch.from_numpy(classifier.weight)
    layer.bias.data = torch.from_numpy(classifier.bias)
