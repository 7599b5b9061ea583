"""Training of a body that knows speech: very many words, told apart by the direction of their embeddings.

A clip and a word in running sound have the same embedding, so that what is fitted on clips is a start for every moment.
Directions are compared by their cosine, and a word's own has to be ahead of all others by a margin: additive margin
softmax, F. Wang et al., arXiv:1801.05599. What is apart by a margin leaves room for words that nobody trained on.
"""
from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Callable, Sequence, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from kws.data.running_sound import Composer, Spoken
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.streaming import frame_embeddings
from kws.model.window import FULL_SCALE
from kws.training.augment import Augmenter
from kws.training.stream_training import RowTimes, histories, masked

_MARGIN = 0.1  # of the cosines
_SCALE = 20.0  # of the cosines at the start; it is learned
_SMOOTHING = 0.05  # of labels
_BEFORE, _AFTER = 0.04, 0.28  # s about the end of a word's voice, in which running sound has its embedding
_RISING = 0.05  # of the steps
_WEIGHT_DECAY = 0.02


@dataclass(frozen=True)
class SpeechRecipe:
    """How a body is trained.

    Args:
        steps: of the optimiser.
        clips: a step, each of one word.
        compositions: a step, of running sound.
        seconds: of a composition.
        learning_rate: the highest of the cycle.
        seed: of all draws.
    """

    steps: int
    clips: int
    compositions: int
    seconds: float
    learning_rate: float
    seed: int


class CosineClassifier(nn.Module):
    """Cosines between embeddings of length 1 and a direction for each word, scaled.

    Args:
        size: K of an embedding.
        num_words: V.
    """

    def __init__(self, size: int, num_words: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(num_words, size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    def loss(self, embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Judge embeddings [N, K] of the words `targets` [N]."""
        cosines = embeddings @ F.normalize(self.directions, dim=1).T
        ahead = _MARGIN * F.one_hot(targets, len(self.directions))
        return F.cross_entropy(self.log_scale.exp() * (cosines - ahead), targets, label_smoothing=_SMOOTHING)


def train_on_words(model: KwsForAudioClassification, waveforms: np.ndarray, words: np.ndarray, augmenter: Augmenter,
                   noise: Callable[[torch.Generator, int], torch.Tensor], composer: Composer,
                   recipe: SpeechRecipe) -> KwsForAudioClassification:
    """Train a network's body to tell words apart; its classifier stays as it is.

    Args:
        model: to begin with, of a folded-mel network with `embedding`; it stays as it is.
        waveforms: [N, T] int16, clips of one word each.
        words: [N] which word, 0 to V - 1.
        augmenter: of the clips.
        noise: draws background for them.
        composer: of running sound in which words are said, by the same numbers.
        recipe: how.
    """
    trained = copy.deepcopy(model).train()
    network, times = cast(FoldedMelNetwork, trained.network), RowTimes(model, recipe.seconds)
    rng, generator = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    size = cast(nn.Linear, network.head[-1]).in_features
    classifier = CosineClassifier(size, int(words.max()) + 1)
    body = [weight for name, weight in network.named_parameters() if not name.startswith("head.")]
    optimiser = torch.optim.AdamW([{"params": body, "weight_decay": _WEIGHT_DECAY},
                                   {"params": list(classifier.parameters()), "weight_decay": 0.0}],
                                  lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps, pct_start=_RISING,
                                                   cycle_momentum=False)
    bar = tqdm(range(recipe.steps), "words", unit="step", disable=None)
    for _ in bar:
        rows = rng.integers(len(waveforms), size=recipe.clips)
        clips = torch.from_numpy(waveforms[rows].astype(np.float32) / FULL_SCALE)
        heard = network.embed(augmenter.spectrograms(clips, noise, model.features, generator))
        alone = classifier.loss(heard, torch.from_numpy(words[rows]))
        sounds, spoken = zip(*(composer.compose(rng) for _ in range(recipe.compositions)))
        embeddings, said = _said(trained, torch.from_numpy(np.stack(sounds)), spoken, times, generator)
        running = classifier.loss(embeddings, said) if len(said) else alone.new_zeros(())
        optimiser.zero_grad(set_to_none=True)
        (alone + running).backward()
        nn.utils.clip_grad_norm_([*body, *classifier.parameters()], 5.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(clips=f"{alone.item():.2f}", running=f"{running.item():.2f}")
    return trained.eval()


def _said(model: KwsForAudioClassification, sounds: torch.Tensor, spoken: Sequence[Sequence[Spoken]], times: RowTimes,
          generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed the words of compositions [B, T], as the rows at each one's end do: [W, K], and which words [W]."""
    with torch.no_grad():
        features = model.features(sounds)
        history = histories(features, generator)
        features = masked(features, generator)
    rows = frame_embeddings(cast(FoldedMelNetwork, model.network), features, history)[:, :len(times.known)]
    words = [(index, word) for index, composition in enumerate(spoken) for word in composition
             if word.end + _AFTER <= times.seconds]
    end = torch.tensor([word.end for _, word in words], dtype=torch.float64)[:, None]
    counted = (times.known >= end - _BEFORE) & (times.known <= end + _AFTER)
    sums = (rows[[index for index, _ in words]] * counted[..., None]).sum(dim=1)
    return F.normalize(sums, dim=1), torch.tensor([word.keyword for _, word in words], dtype=torch.long)
