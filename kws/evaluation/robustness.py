"""Accuracy of models on degraded recordings: noisy, reverberant, quiet, cut."""
from __future__ import annotations

from typing import Iterator, Optional, Sequence

import numpy as np
import torch
from scipy.signal import fftconvolve

from kws.config.sections import Config
from kws.data.dataset import ClipDataset
from kws.data.noise_bank import NoiseBank, mix_noise
from kws.data.store import PreparedStore
from kws.errors import DataError
from kws.evaluation.clips import LabelledClips, check_same_window, evaluate
from kws.inference.spotter import KeywordSpotter
from kws.model.labels import UNKNOWN, LabelSet
from kws.model.window import FULL_SCALE

_SNR_DB = (20, 10, 5, 0)
_ROOM_SECONDS, _ROOM_DIRECT_DB = 0.5, 0.0  # a living room, some two metres from the microphone
_FIRST_WALL_SECONDS = 0.0025  # after the direct sound: no wall is nearer than a forearm
_QUIET_DB = -30
_CUT_SECONDS = 0.15
_CLIPS_AT_A_TIME = 100
_SILENT = 1e-9


def conditions(waveforms: torch.Tensor, noise: Optional[NoiseBank], sample_rate: int,
               seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a name and the clips [N, T] float32 of each condition; equal for equal seeds."""
    yield "clean", waveforms
    if noise:
        background = noise.draw(torch.Generator().manual_seed(seed), len(waveforms))
        for snr_db in _SNR_DB:
            ratio = torch.full((len(waveforms),), float(snr_db))
            yield f"{snr_db} dB", mix_noise(waveforms, background, ratio).clamp(-1, 1)
    yield "room", across_room(waveforms, sample_rate, seed)
    yield "quiet", waveforms * 10 ** (_QUIET_DB / 20)
    cut = waveforms.clone()
    edge = round(_CUT_SECONDS * sample_rate)
    cut[:, :edge] = cut[:, -edge:] = 0
    yield "cut", cut


def across_room(waveforms: torch.Tensor, sample_rate: int, seed: int) -> torch.Tensor:
    """Hear each clip [N, T] in a room of its own, all of them equally reverberant, as loud as it was."""
    generator = torch.Generator().manual_seed(seed)
    heard = []
    for clips in waveforms.split(_CLIPS_AT_A_TIME):  # responses are long
        responses = room_responses(len(clips), _ROOM_SECONDS, _ROOM_DIRECT_DB, sample_rate, generator)
        far = torch.from_numpy(fftconvolve(clips.numpy(), responses.numpy(), axes=1)[:, :clips.shape[1]])
        loudness, far_loudness = (signal.square().mean(dim=1, keepdim=True).sqrt() for signal in (clips, far))
        heard.append(far * loudness / far_loudness.clamp_min(_SILENT))
    return torch.cat(heard).clamp(-1, 1)


def room_responses(count: int, seconds: float, direct_db: float, sample_rate: int,
                   generator: torch.Generator) -> torch.Tensor:
    """Draw impulse responses: the direct sound, then noise that decays exponentially.

    The model is J.-D. Polack's, "La transmission de l'énergie sonore dans les salles" (1988), for all of the tail. The
    rooms of the synthetic corpus (kws/corpus/acoustics.py) are gentler, and drawn with everything else about a speaker.

    Args:
        count: B, how many.
        seconds: reverberation time, after which the tail has fallen by 60 dB.
        direct_db: level of the direct sound over that of the whole tail.
        sample_rate: Hz.
        generator: on the CPU.
    Returns:
        [B, R] float32, R half a second; the direct sound is 1, at the first sample.
    """
    times = torch.arange(sample_rate // 2) / sample_rate
    responses = torch.randn(count, len(times), generator=generator) * 10 ** (-3 * times / seconds)
    responses[:, :round(_FIRST_WALL_SECONDS * sample_rate)] = 0.0
    responses *= 10 ** (-direct_db / 20) / responses.square().sum(dim=1, keepdim=True).sqrt()
    responses[:, 0] = 1.0
    return responses


def accuracy(spotter: KeywordSpotter, waveforms: np.ndarray, label_ids: np.ndarray, labels: LabelSet) -> float:
    """Percentage of correct answers to clips [N, T] float32 with label indices [N]."""
    names = [f"clip {number}" for number in range(len(waveforms))]
    return 100 * evaluate(spotter, LabelledClips(names, list(waveforms), label_ids, labels)).metrics["accuracy"]


def measure(spotter: KeywordSpotter, store: PreparedStore, config: Config, split: str,
            left_out: Sequence[str]) -> dict[str, float]:
    """Percentages of correct answers by condition; left-out words count in the last columns only."""
    check_same_window(store, spotter)
    clips = ClipDataset(store, split, None, config.data.silence_ratio, config.data.silence_gain_db, config.seed,
                        left_out)
    if not len(clips):
        raise DataError(f"no clips in split {split!r}", "no_clips")
    waveforms = clips.__getitems__(range(len(clips)))["input_values"]
    row = {name: accuracy(spotter, varied.numpy(), clips.label_ids, store.labels)
           for name, varied in conditions(waveforms, clips.noise, store.sample_rate, config.seed)}
    for word in left_out:
        rows = store.manifest.index[store.manifest["word"] == word]
        unknown = np.full(len(rows), store.labels.index(UNKNOWN))
        said = store.waveforms[rows] / np.float32(FULL_SCALE)
        row[f"refused '{word}'"] = accuracy(spotter, said, unknown, store.labels)
    return row
