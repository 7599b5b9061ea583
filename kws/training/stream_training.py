"""Training for running sound: networks learn the detector's own score on composed sound.

A word counts by its surest moments while it may still be reported (max-pooling loss: M. Sun et al., arXiv:1705.02411),
sound without it by all of its moments and by the worst ones of every second (regional hard negatives: J. Hou et al.,
"Mining Effective Negative Training Samples for Keyword Spotting", ICASSP 2020). Several networks may learn from the
same sound; the first one, the largest, then teaches the others what it makes of every moment.
"""
from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass
from typing import Sequence, cast

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from kws.data.running_sound import Composer
from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.streaming import StreamingClassifier, frame_logits
from kws.training.augment import mask_random_bands

logger = logging.getLogger(__name__)

_EARLIEST, _LATEST = 0.15, 0.28  # s after a voice begins and after it ends, between which its word must be sure
_FREE_AFTER = 1.0  # s after a voice ends in which its word costs nothing: hearing it twice is the detector's matter
_SUREST = 3  # rows of a word that count
_REGION_SECONDS = 1.0
_LEAST = 1e-6
_TAUGHT = 5.0  # weight of what the teacher makes of every row
_FORGETTING = 10.0  # times in a training that the running mean of the weights, which is what is kept, forgets
_HISTORY_DB = (-22.0, 7.0)  # loudest point before a composition, beside its own; none for some of them
_NO_HISTORY = 0.4
_RISING = 0.08  # of the steps
_MASKED_BINS = 6


@dataclass(frozen=True)
class Recipe:
    """How networks are trained on composed sound.

    Args:
        steps: of the optimiser.
        batch_size: compositions a step.
        learning_rate: the highest of the cycle.
        negative_weight: of sound without a word, over that of words.
        smoothing_seconds: over which the detector averages.
        workers: processes that compose; 0: this one does.
        seed: of all draws; the same for any number of workers.
    """

    steps: int
    batch_size: int
    learning_rate: float
    negative_weight: float
    smoothing_seconds: float
    workers: int
    seed: int


class Compositions(Dataset):
    """The batch of every step: sounds [B, T] float32 and their keywords [W, 4]: composition, keyword, start, end (s).

    Args:
        composer: composes.
        batch_size: B.
        seed: of all of it.
    """

    def __init__(self, composer: Composer, batch_size: int, seed: int) -> None:
        self._composer, self._size, self._seed = composer, batch_size, seed

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self._seed, step])
        sounds, spoken = zip(*(self._composer.compose(rng) for _ in range(self._size)))
        words = [(index, word.keyword, word.start, word.end)
                 for index, composition in enumerate(spoken) for word in composition]
        return torch.from_numpy(np.stack(sounds)), torch.tensor(words, dtype=torch.float64).reshape(-1, 4)


@dataclass(frozen=True)
class Answers:
    """What a batch of compositions should be answered with.

    Args:
        free: [B, R, K] rows in which a keyword costs nothing.
        composition, keyword: [W] of every word that is to be found.
        timely: [W, R] rows in which it may be.
    """

    free: torch.Tensor
    composition: torch.Tensor
    keyword: torch.Tensor
    timely: torch.Tensor

    def to(self, device: torch.device) -> Answers:
        """Move all of it."""
        return Answers(*(part.to(device, non_blocking=True)
                         for part in (self.free, self.composition, self.keyword, self.timely)))


class RowTimes:
    """Which row of a whole sound's logits is known when.

    Args:
        model: the network.
        seconds: of a composition; rows that need more than it are left out.
    """

    def __init__(self, model: KwsForAudioClassification, seconds: float) -> None:
        streaming, rate = StreamingClassifier(model), model.config.sample_rate
        step = streaming.step_samples / rate
        first = ((streaming.delay_rows + 1) * streaming.step_samples - streaming.lead_samples) / rate
        self.seconds, self.step = seconds, step
        self.known = torch.arange(int((seconds - first) / step) + 1, dtype=torch.float64) * step + first

    def answers(self, words: torch.Tensor, compositions: int, num_keywords: int) -> Answers:
        """Turn the words [W, 4] of compositions into rows; one that is cut short need not be found."""
        composition, keyword = words[:, 0].long(), words[:, 1].long()
        start, end = words[:, 2, None], words[:, 3, None]
        free = torch.zeros(compositions, num_keywords, len(self.known), dtype=torch.long)
        may_be = (self.known >= start) & (self.known <= end + _FREE_AFTER)
        free.index_put_((composition, keyword), may_be.long(), accumulate=True)
        timely = (self.known >= start + _EARLIEST) & (self.known <= end + _LATEST)
        whole = (timely.sum(dim=1) >= _SUREST) & (end[:, 0] + _LATEST <= self.seconds)
        return Answers((free > 0).transpose(1, 2), composition[whole], keyword[whole], timely[whole])


def stream_loss(logits: torch.Tensor, answers: Answers, smoothed_rows: int,
                region_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Judge rows by the detector's score, the probability averaged over the last rows.

    Args:
        logits: [B, R, C], keywords first.
        answers: what they should have been.
        smoothed_rows: that the detector averages.
        region_rows: of which the worst one counts besides.
    Returns:
        loss of the words, and loss of the sound without them.
    """
    num_keywords = answers.free.shape[2]
    scores = F.softmax(logits, dim=2)[..., :num_keywords].transpose(1, 2)
    scores = F.avg_pool1d(F.pad(scores, (smoothed_rows - 1, 0)), smoothed_rows, 1).transpose(1, 2)
    wrong = -torch.log1p(-(scores * ~answers.free).sum(dim=2).clamp(max=1 - _LEAST))
    regions = F.max_pool1d(wrong[:, None], region_rows, region_rows // 2)[:, 0]
    sound = 0.5 * wrong.mean() + 0.5 * regions.mean() + 0.3 * regions.topk(2, dim=1).values.mean()
    if not len(answers.keyword):
        return sound.new_zeros(()), sound
    said = scores[answers.composition, :, answers.keyword] * answers.timely
    return -torch.log(said.topk(_SUREST, dim=1).values.mean(dim=1).clamp_min(_LEAST)).mean(), sound


class _Learner:
    """A network in training and the running mean of its weights."""

    def __init__(self, model: KwsForAudioClassification, seconds: float, recipe: Recipe, device: torch.device) -> None:
        self._model = copy.deepcopy(model).train()
        torch.nn.Module.to(self._model, device)
        keeping = max(1 - _FORGETTING / recipe.steps, 0.0)
        self._mean = AveragedModel(self._model, multi_avg_fn=get_ema_multi_avg_fn(keeping), use_buffers=True)
        self._times = RowTimes(model, seconds)
        self._smoothed = round(recipe.smoothing_seconds / self._times.step)
        self._region = round(_REGION_SECONDS / self._times.step)
        self._recipe = recipe
        self._optimiser = torch.optim.AdamW(_groups(self._model), lr=recipe.learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._share_of_peak)

    def _share_of_peak(self, step: int) -> float:
        """Rise in a line, fall as a cosine."""
        done = step / self._recipe.steps
        return done / _RISING if done < _RISING else 0.5 + 0.5 * math.cos(math.pi * (done - _RISING) / (1 - _RISING))

    def rows(self, features: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """Answer for the rows that a composition is long enough for: [B, R, C]."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=features.is_cuda):
            logits = frame_logits(cast(FoldedMelNetwork, self._model.network), features, history)
        return logits[:, :len(self._times.known)].float()

    def learn(self, logits: torch.Tensor, words: torch.Tensor,
              teacher: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step; return the loss of words and of sound without them."""
        answers = self._times.answers(words, len(logits), len(labels_of(self._model).keywords))
        found, sound = stream_loss(logits, answers.to(logits.device), self._smoothed, self._region)
        loss = found + self._recipe.negative_weight * sound
        if teacher is not None:
            rows = min(logits.shape[1], teacher.shape[1])
            loss = loss + _TAUGHT * F.cross_entropy(logits[:, :rows].transpose(1, 2),
                                                    F.softmax(teacher[:, :rows], dim=2).transpose(1, 2))
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 5.0)
        self._optimiser.step()
        self._schedule.step()
        self._mean.update_parameters(self._model)
        return found.detach(), sound.detach()

    def result(self) -> KwsForAudioClassification:
        """Give the running mean of the weights, on the CPU."""
        return cast(KwsForAudioClassification, self._mean.module.cpu().eval())


def train_on_sound(models: Sequence[KwsForAudioClassification], composer: Composer, seconds: float,
                   recipe: Recipe) -> list[KwsForAudioClassification]:
    """Train networks on the same composed sound; with several, the first one teaches the others.

    Args:
        models: to begin with, of the same labels and front end; they stay as they are.
        composer: of compositions of `seconds`.
        seconds: of a composition.
        recipe: how.
    Returns:
        the running mean of each one's weights, in a model of its own, on the CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learners = [_Learner(model, seconds, recipe, device) for model in models]
    front_end = copy.deepcopy(models[0].features).to(device)
    generator = torch.Generator().manual_seed(recipe.seed)
    batches = DataLoader(Compositions(composer, recipe.batch_size, recipe.seed), batch_size=None,
                         sampler=range(recipe.steps), num_workers=recipe.workers, pin_memory=device.type == "cuda")
    for step, (sounds, words) in enumerate(tqdm(batches, "running sound", unit="step", disable=None)):
        with torch.no_grad():
            features = front_end(sounds.to(device, non_blocking=True))
            history = histories(features, generator)
            features = masked(features, generator)
        losses, teacher = [], None
        for learner in learners:
            logits = learner.rows(features, history)
            losses.append(learner.learn(logits, words, teacher))
            teacher = logits.detach() if teacher is None else teacher
        if step % 100 == 99:
            logger.info("step %d of %d: %s", step + 1, recipe.steps, "; ".join(
                f"words {found:.3f}, sound without them {sound:.4f}" for found, sound in losses))
    return [learner.result() for learner in learners]


def _groups(model: torch.nn.Module) -> list[dict[str, object]]:
    """Weights decay; biases and scales do not."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]


def histories(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw how loud it was before each composition, [B, 1, 1, 1]: features are natural logarithms of energies."""
    low, high = (level * math.log(10) / 10 for level in _HISTORY_DB)
    shape = (len(features), 1, 1, 1)
    drawn = low + (high - low) * torch.rand(shape, generator=generator)
    drawn[torch.rand(shape, generator=generator) < _NO_HISTORY] = -torch.inf
    return features.amax(dim=(1, 2, 3), keepdim=True) + drawn.to(features.device)


def masked(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mask a band of mel bins of each composition, at most `_MASKED_BINS` wide."""
    return mask_random_bands(features, 2, 1, _MASKED_BINS, generator)
