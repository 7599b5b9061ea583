"""The job of training on for running sound: prepared store, recordings without keywords, clip model -> model folder."""
from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch

from kws.audio.decode import Limits
from kws.audio.folders import entries
from kws.config.sections import Config
from kws.corpus.babble import crowds
from kws.corpus.noises import sounds
from kws.data.dataset import ClipDataset
from kws.data.inspection import inspect_file
from kws.data.noise_bank import PARTS
from kws.data.running_sound import Composer, Sources
from kws.data.split import TRAINING
from kws.data.store import PreparedStore, load_store
from kws.errors import AudioError, ConfigError, DataError
from kws.files.atomic import atomic_folder, check_replaceable
from kws.inference.detector import DetectorSettings
from kws.model.folder import WEIGHTS_FILE
from kws.model.labels import UNKNOWN
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsFeatureExtractor, KwsForAudioClassification
from kws.model.streaming import check_streamable
from kws.training.augment import Augmenter
from kws.training.stream_training import fine_tune

_CLIPS = 12  # of a step, beside its compositions
_LIMITS = Limits(max_bytes=2**32, max_seconds=24 * 3600.0, max_values=2**32)


def train_for_streams(config: Config) -> Path:
    """Train `training.model` on, write `streams.model`, whole or not at all; return its folder.

    Raises:
        ConfigError: if no recordings without keywords are named.
        DataError: if the prepared store or a recording cannot be used.
        ModelError: if there is no clip model to start from, or it cannot hear running sound.
    """
    settings = config.streams
    check_replaceable(settings.model, WEIGHTS_FILE, outside=[config.training.model, *settings.negatives])
    if not settings.negatives:
        raise ConfigError("streams", ["negatives: found none; expected files or folders of recordings without a "
                                      "keyword: talk is what a detector hears most"])
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.training.num_threads or os.cpu_count() or 1)
    model, store = load_torch_model(config.training.model), load_store(config.data.prepared)
    check_streamable(model.network)
    composer = Composer(sources(store, recordings(settings.negatives, store.sample_rate)), store.sample_rate,
                        settings.seconds)
    trained = fine_tune(model, composer, _clips(config, store, model), settings.seconds, settings.steps,
                        settings.batch_size, settings.learning_rate, settings.negative_weight,
                        settings.smoothing_seconds, config.seed)
    trained.config.detector = asdict(DetectorSettings(smoothing_seconds=settings.smoothing_seconds))
    with atomic_folder(settings.model) as folder:
        trained.save_pretrained(folder)
        KwsFeatureExtractor(config.data.sample_rate, config.data.num_samples).save_pretrained(folder)
        summary = {"steps": settings.steps, "seed": config.seed,
                   "negatives": [str(path) for path in settings.negatives]}
        (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return settings.model


def recordings(paths: Sequence[Path], sample_rate: int) -> list[np.ndarray]:
    """Decode files, and all audio files of folders: int16 [T] each, in the order of their names.

    Raises:
        DataError: "no_data" if a path holds no audio file; AudioError if one cannot be decoded.
    """
    found = []
    for path in paths:
        root, files = path.parent, [path.name]
        if path.is_dir():
            root, files = path, [entry.path for entry in entries(path) if not (entry.passed_over or entry.error)]
        if not files:
            raise DataError(f"{path}: no audio files; expected recordings without a keyword", "no_data")
        found += [_samples(file, root, sample_rate) for file in files]
    return found


def _samples(path: str, root: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording as `kws prepare` does: [T] int16."""
    inspection = inspect_file(path, root, sample_rate, None, _LIMITS)
    if inspection.samples is None:
        raise AudioError(f"{root}: {inspection.message}", inspection.code)
    return inspection.samples


def sources(store: PreparedStore, speech: Sequence[np.ndarray]) -> Sources:
    """Take the training split's words and noise from a store."""
    table = store.manifest[store.manifest["split"] == TRAINING]
    begin, end = PARTS[TRAINING]
    noise = [sound[int(begin * len(sound)):int(end * len(sound))] for sound in store.noise.values()]
    made = [(sound * 32767).astype(np.int16)
            for sound in sounds(store.sample_rate) + crowds(store.waveforms, table.index.to_numpy())]
    others = table[table["label"] == UNKNOWN]
    return Sources(
        keywords=[store.waveforms[table.index[table["label"] == word].to_numpy()] for word in store.labels.keywords],
        others=[store.waveforms[rows.index.to_numpy()] for _, rows in others.groupby("word")],
        speech=speech, backgrounds=[sound for sound in (*noise, *made) if len(sound)])


def _clips(config: Config, store: PreparedStore,
           model: KwsForAudioClassification) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw augmented training clips without an end: features [B, 1, M, F] and labels [B]."""
    settings, rng = config.data, np.random.default_rng(config.seed)
    clips = ClipDataset(store, TRAINING, settings.unknown_ratio, settings.silence_ratio, settings.silence_gain_db,
                        config.seed, settings.left_out)
    augmenter = Augmenter(sample_rate=settings.sample_rate, **config.augment.model_dump())
    generator = torch.Generator().manual_seed(config.seed)
    epoch = 0
    while True:
        order = rng.permutation(len(clips))
        for start in range(0, len(order) - _CLIPS, _CLIPS):
            batch = clips.__getitems__(order[start:start + _CLIPS].tolist())
            with torch.no_grad():
                features = augmenter.spectrograms(batch["input_values"], clips.noise.draw if clips.noise else None,
                                                  model.features, generator)
            yield features, batch["labels"]
        epoch += 1
        clips.set_epoch(epoch)
