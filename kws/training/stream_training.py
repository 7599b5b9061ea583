"""Fine-tuning for running sound: the network learns the detector's own score on composed sound, and keeps its clips.

A word counts by its surest moments while it may still be reported (max-pooling loss: M. Sun et al., arXiv:1705.02411),
sound without it by all of its moments and by the worst ones of every second (regional hard negatives: J. Hou et al.,
"Mining Effective Negative Training Samples for Keyword Spotting", ICASSP 2020). What the clip model answers on clips
is learned beside it.
"""
from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Iterator, Sequence, cast

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from kws.data.running_sound import Composer, Spoken
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.loading import labels_of
from kws.model.streaming import StreamingClassifier, frame_logits

logger = logging.getLogger(__name__)

_EARLIEST, _LATEST = 0.15, 0.33  # s after a voice begins and after it ends, between which its word must be sure
_FREE_AFTER = 1.0  # s after a voice ends in which its word costs nothing: hearing it twice is the detector's matter
_SUREST = 3  # rows of a word that count
_REGION_SECONDS = 1.0
_LEAST = 1e-6
_TEMPERATURE, _CLIP_WEIGHT, _TEACHER_SHARE = 2.0, 1.0, 0.7
_AVERAGED = 0.994  # of the running mean of the weights, which is what is kept
_HISTORY_DB = (-22.0, 7.0)  # loudest point before a composition, beside its own; none for some of them
_NO_HISTORY = 0.4


@dataclass(frozen=True)
class Answers:
    """What a batch of compositions should be answered with.

    Args:
        free: [B, R, K] rows in which a keyword costs nothing.
        words: composition, keyword, first row and last row + 1 of every word that is to be found.
    """

    free: torch.Tensor
    words: list[tuple[int, int, int, int]]


class RowTimes:
    """Which row of a whole sound's logits is known when.

    Args:
        model: the network.
        seconds: of a composition; rows that need more than it are left out.
    """

    def __init__(self, model: KwsForAudioClassification, seconds: float) -> None:
        streaming, rate = StreamingClassifier(model), model.config.sample_rate
        step = streaming.step_samples / rate
        first = (streaming.delay_rows + 1) * step - streaming.lead_samples / rate
        self.seconds, self.step = seconds, step
        self.known = np.arange(int((seconds - first) / step) + 1) * step + first

    def answers(self, spoken: Sequence[Sequence[Spoken]], num_keywords: int) -> Answers:
        """Turn the words of compositions into rows."""
        free = np.zeros((len(spoken), len(self.known), num_keywords), dtype=bool)
        words = []
        for index, composition in enumerate(spoken):
            for word in composition:
                free[index, (self.known >= word.start) & (self.known <= word.end + _FREE_AFTER), word.keyword] = True
                rows = np.flatnonzero((self.known >= word.start + _EARLIEST) & (self.known <= word.end + _LATEST))
                if len(rows) >= _SUREST and word.end + _LATEST <= self.seconds:
                    words.append((index, word.keyword, int(rows[0]), int(rows[-1]) + 1))
        return Answers(torch.from_numpy(free), words)


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
    if not answers.words:
        return sound.new_zeros(()), sound
    index, keyword, first, last = torch.tensor(answers.words, device=logits.device).T
    rows = torch.arange(scores.shape[1], device=logits.device)
    inside = (rows >= first[:, None]) & (rows < last[:, None])
    surest = (scores[index, :, keyword] * inside).topk(_SUREST, dim=1).values.mean(dim=1)
    return -torch.log(surest.clamp_min(_LEAST)).mean(), sound


def fine_tune(model: KwsForAudioClassification, composer: Composer, clips: Iterator[tuple[torch.Tensor, torch.Tensor]],
              seconds: float, steps: int, batch_size: int, learning_rate: float, negative_weight: float,
              smoothing_seconds: float, seed: int) -> KwsForAudioClassification:
    """Train a clip model on for running sound.

    Args:
        model: trained on clips; it is the teacher on clips and stays as it is.
        composer: of compositions of `seconds`.
        clips: batches of augmented features [B, 1, M, F] and labels [B], without an end.
        seconds: of a composition.
        steps: of the optimiser.
        batch_size: compositions a step.
        learning_rate: the highest of the cycle.
        negative_weight: of sound without a word, over that of words.
        smoothing_seconds: of the detector's score.
        seed: of all draws.
    Returns:
        the running mean of the trained weights, in a model of its own.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    pupil = copy.deepcopy(model).eval()  # the statistics of its normalisations stay: clips and streams share them
    average = copy.deepcopy(pupil)
    network, times = cast(FoldedMelNetwork, pupil.network), RowTimes(pupil, seconds)
    smoothed, region = round(smoothing_seconds / times.step), round(_REGION_SECONDS / times.step)
    num_keywords = len(labels_of(model).keywords)
    optimiser = torch.optim.AdamW(_groups(pupil), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, steps, pct_start=0.08)
    for step in tqdm(range(steps), desc="running sound", unit="step", disable=None):
        sounds, spoken = zip(*(composer.compose(rng) for _ in range(batch_size)))
        with torch.no_grad():
            features = pupil.features(torch.from_numpy(np.stack(sounds)))
        logits = frame_logits(network, features, _histories(features, generator))[:, :len(times.known)]
        words, sound = stream_loss(logits, times.answers(spoken, num_keywords), smoothed, region)
        loss = words + negative_weight * sound + _CLIP_WEIGHT * _clip_loss(pupil, model, *next(clips))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pupil.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _follow(average, pupil, min(_AVERAGED, (1 + step) / (10 + step)))
        if step % 100 == 99:
            logger.info("step %d of %d: words %.3f, sound without them %.4f", step + 1, steps, words, sound)
    return average


def _groups(model: torch.nn.Module) -> list[dict[str, object]]:
    """Weights decay; biases and scales do not."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]


def _histories(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw how loud it was before each composition, [B, 1, 1, 1]: features are natural logarithms of energies."""
    low, high = (level * np.log(10) / 10 for level in _HISTORY_DB)
    drawn = low + (high - low) * torch.rand(len(features), 1, 1, 1, generator=generator)
    none = torch.rand(len(features), 1, 1, 1, generator=generator) < _NO_HISTORY
    return torch.where(none, -torch.inf, features.amax(dim=(1, 2, 3), keepdim=True) + drawn)


def _clip_loss(pupil: KwsForAudioClassification, teacher: KwsForAudioClassification, features: torch.Tensor,
               labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the labels and divergence from the clip model's answers."""
    with torch.no_grad():
        expected = F.softmax(teacher(input_features=features).logits / _TEMPERATURE, dim=1)
    logits = pupil(input_features=features).logits
    divergence = F.kl_div(F.log_softmax(logits / _TEMPERATURE, dim=1), expected, reduction="batchmean")
    labelled = F.cross_entropy(logits, labels, label_smoothing=0.05)
    return (1 - _TEACHER_SHARE) * labelled + _TEACHER_SHARE * _TEMPERATURE ** 2 * divergence


@torch.no_grad()
def _follow(average: torch.nn.Module, model: torch.nn.Module, share: float) -> None:
    for mean, now in zip(average.parameters(), model.parameters()):
        mean.lerp_(now, 1 - share)
