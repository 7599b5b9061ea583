"""Own words in running sound: a classifier of every moment, on a body that stays as it is.

What the body makes of composed sound is computed once; the classifier then learns the detector's own score on it, see
`kws.training.stream_training`, and to take no moment of the talk, music and noise that the body brings for a keyword.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from kws.data.running_sound import Composer
from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.streaming import frame_embeddings
from kws.training.body import Others
from kws.training.stream_training import Compositions, Recipe, RowTimes, histories, masked, stream_loss
from kws.training.teaching import whitening

_PASSES = 12  # over the compositions
_AT_ONCE = 4  # batches of compositions a step
_DECAY = 1e-3
_MOMENTS = 2.0  # weight of the moments that the body brings


@dataclass(frozen=True)
class _Heard:
    """A batch of compositions: rows [B, R, K] and the keywords [W, 4] in them."""

    rows: torch.Tensor
    words: torch.Tensor


def teach_running_sound(model: KwsForAudioClassification, composer: Composer, others: Others, seconds: float,
                        recipe: Recipe) -> KwsForAudioClassification:
    """Train the classifier of a model on for running sound.

    Args:
        model: whose classifier knows the words as clips; stays as it is.
        composer: of compositions of `seconds`.
        others: what the body brings.
        seconds: of a composition.
        recipe: `steps` are batches of compositions that are heard.
    Returns:
        the model with another classifier.
    """
    taught = copy.deepcopy(model).eval()
    network, times = cast(FoldedMelNetwork, taught.network), RowTimes(model, seconds)
    heard = _hear(taught, composer, recipe, len(times.known))
    layer = cast(torch.nn.Linear, network.head[-1])
    scale = torch.from_numpy(whitening(others.within).astype(np.float32))  # embeddings @ scale vary alike
    middle = torch.from_numpy(others.words.mean(axis=0))
    weight = torch.linalg.solve(scale, layer.weight.detach().T).requires_grad_()
    bias = (layer.bias.detach() + layer.weight.detach() @ middle).requires_grad_()
    optimiser = torch.optim.AdamW([{"params": [weight], "weight_decay": _DECAY},
                                   {"params": [bias], "weight_decay": 0.0}], lr=recipe.learning_rate)
    moments = (torch.from_numpy(others.moments) - middle) @ scale
    steps = max(1, len(heard) // _AT_ONCE) * _PASSES
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    smoothed, region = round(recipe.smoothing_seconds / times.step), round(1.0 / times.step)
    num_keywords = len(labels_of(model).keywords)
    order = np.random.default_rng(recipe.seed)
    for _ in range(steps):
        batch = [heard[index] for index in order.choice(len(heard), min(_AT_ONCE, len(heard)), replace=False)]
        loss = _moment_loss(moments @ weight + bias, num_keywords) * _MOMENTS
        for part in batch:
            answers = times.answers(part.words, len(part.rows), num_keywords)
            found, sound = stream_loss(((part.rows - middle) @ scale) @ weight + bias, answers, smoothed, region)
            loss = loss + (found + recipe.negative_weight * sound) / len(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        layer.weight.copy_((scale @ weight).T)
        layer.bias.copy_(bias - layer.weight @ middle)
    return taught


@torch.inference_mode()
def _hear(model: KwsForAudioClassification, composer: Composer, recipe: Recipe, num_rows: int) -> list[_Heard]:
    """Compose, and hear with the body."""
    generator = torch.Generator().manual_seed(recipe.seed)
    batches = DataLoader(Compositions(composer, recipe.batch_size, recipe.seed), batch_size=None,
                         sampler=range(recipe.steps), num_workers=recipe.workers)
    heard = []
    for sounds, words in tqdm(batches, "running sound", unit="batch", disable=None):
        features = model.features(sounds)
        history = histories(features, generator)
        rows = frame_embeddings(cast(FoldedMelNetwork, model.network), masked(features, generator), history)
        heard.append(_Heard(rows[:, :num_rows].clone(), words))
    return heard


def _moment_loss(logits: torch.Tensor, num_keywords: int) -> torch.Tensor:
    """Judge moments without a keyword, [N, C], by all of them and by the worst."""
    wrong = -torch.log1p(-F.softmax(logits, dim=1)[:, :num_keywords].sum(dim=1).clamp(max=1 - 1e-6))
    return wrong.mean() + 0.2 * wrong.topk(max(1, len(wrong) // 50)).values.mean()
