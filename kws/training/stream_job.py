"""The job of training on for running sound: prepared store, recordings without keywords, clip model -> model folder."""
from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import torch
from safetensors.torch import save_file

from kws.audio.folders import NEGATIVES_FOLDER, entries
from kws.config.architecture import load_architecture
from kws.config.sections import Config
from kws.corpus.acoustics import room_response
from kws.corpus.ambience import music, places
from kws.corpus.babble import crowds
from kws.corpus.noises import sounds
from kws.data.background import inspect_background
from kws.data.noise_bank import noise_of_split
from kws.data.running_sound import Composer, Sources, has_voice
from kws.data.split import TRAINING
from kws.data.store import PreparedStore, load_matching_store
from kws.errors import AudioError, ConfigError, DataError, ModelError
from kws.files.atomic import atomic_file
from kws.files.locks import exclusive
from kws.inference.detector import DetectorSettings, score_of
from kws.model.folder import SECOND_FILE, STREAM_FILE, STREAM_WEIGHTS_FILE, write_detector_rule
from kws.model.labels import UNKNOWN
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.second_look import larger, save_second_look
from kws.model.streaming import check_streamable
from kws.training.body import start_on_sound
from kws.training.stream_training import Recipe, train_on_sound

_ROOMS = 120

logger = logging.getLogger(__name__)


def train_for_streams(config: Config) -> Path:
    """Train `training.model` on; add the weights and the detector's rule to its folder, and return it.

    Raises:
        ConfigError: if the model is that of `training.trains: classifier`, or `streams.start_from` knows no running
            sound.
        DataError: if the prepared store or a recording cannot be used; "in_use" if another training writes the model.
        ModelError: if there is no clip model to start from, or it cannot hear running sound.
    """
    if config.training.trains == "classifier":
        raise ConfigError("training.trains", ["found classifier, which hears running sound as it is: nothing is left "
                                              "to train; next, kws export"])
    torch.manual_seed(config.seed)
    if config.training.num_threads:  # else PyTorch's own choice, which OMP_NUM_THREADS may name
        torch.set_num_threads(config.training.num_threads)
    with exclusive(config.training.model, "a training"):
        *larger_one, trained = _trained(config)
        write_stream_weights(config.training.model, trained, detector_rule(config), *larger_one)
    return config.training.model


def _trained(config: Config) -> list[KwsForAudioClassification]:
    """Train the model for running sound; before it comes what takes a second look, if anything does."""
    settings = config.streams
    store = load_matching_store(config.data.prepared, config.data.sample_rate, config.data.num_samples,
                                config.data.keywords)
    model = load_torch_model(config.training.model)
    check_streamable(model.network)
    models = _networks(config, model)  # before hours of sound are read
    recipe = Recipe(settings.steps, settings.batch_size, settings.learning_rate, settings.negative_weight,
                    settings.smoothing_seconds, settings.workers, config.seed)
    with TemporaryDirectory() as scratch:  # of the samples of long recordings
        speech = negatives(config, store.sample_rate, Path(scratch))
        if not speech:
            logger.warning("no recordings without a keyword, neither in streams.negatives nor in %s: rows of other "
                           "words stand in for talk, and the model will take talk for keywords more often",
                           config.data.root / NEGATIVES_FOLDER)
        composer = Composer(sources(store, speech, config.data.left_out), store.sample_rate, settings.seconds)
        trained = train_on_sound(models, composer, settings.seconds, recipe)
        del speech, composer  # and their maps, before the files
    return trained


def detector_rule(config: Config) -> dict[str, Any]:
    """Give the detector's rule, as a model's configuration holds it."""
    settings = config.streams
    return asdict(DetectorSettings(threshold=score_of(settings.threshold),
                                   smoothing_seconds=settings.smoothing_seconds))


def _networks(config: Config, model: KwsForAudioClassification) -> list[KwsForAudioClassification]:
    """Give what is to be trained, as it starts: before the network comes what takes a second look."""
    settings = config.streams
    models = [model]
    if settings.second_look is not None:
        models.insert(0, larger(model, load_architecture(settings.second_look).as_json()))
    if settings.start_from is not None:
        try:
            start_on_sound(settings.start_from, models)
        except ModelError as error:
            raise ConfigError("streams.start_from", [f"{error}; or give null, to start from training.model"]) from error
    return models


def write_stream_weights(folder: Path, trained: KwsForAudioClassification, rule: Mapping[str, Any],
                         second: Optional[KwsForAudioClassification] = None) -> None:
    """Add to a model folder what hears running sound, and the fields of `DetectorSettings`.

    Args:
        folder: of the clip model.
        trained: the same network, with weights for running sound.
        rule: the fields.
        second: a larger network that takes a second look.
    """
    for name in (STREAM_FILE, SECOND_FILE):  # of other weights
        (folder / name).unlink(missing_ok=True)
    if second is not None:
        save_second_look(folder, second)
    with atomic_file(folder / STREAM_WEIGHTS_FILE) as path:
        save_file(trained.network.state_dict(), path)
    write_detector_rule(folder, rule)


def negatives(config: Config, sample_rate: int, scratch: Path) -> list[np.ndarray]:
    """Decode `streams.negatives`; where it names nothing, the data folder's own talk, if there is any: int16 [T] each.

    Args:
        config: the configuration.
        sample_rate: Hz, of the samples.
        scratch: a folder for the samples of long recordings.
    """
    usual = config.data.root / NEGATIVES_FOLDER
    return recordings(config.streams.negatives or ([usual] if usual.is_dir() else []), sample_rate, scratch)


def recordings(paths: Sequence[Path], sample_rate: int, scratch: Path) -> list[np.ndarray]:
    """Decode files, and all audio files of folders: int16 [T] each, in the order of their names.

    Args:
        paths: of files and folders.
        sample_rate: Hz, of the samples.
        scratch: a folder for the samples of recordings over a minute, which are mapped from there.
    Raises:
        DataError: "no_data" if a path holds no audio file; AudioError if one cannot be decoded.
    """
    found: list[np.ndarray] = []
    for path in paths:
        root, files = path.parent, [path.name]
        if path.is_dir():
            root, files = path, [entry.path for entry in entries(path) if not (entry.passed_over or entry.error)]
        if not files:
            raise DataError(f"{path}: no audio files; expected recordings without a keyword", "no_data")
        for file in files:
            found.append(_samples(file, root, sample_rate, scratch / f"{len(found)}.raw"))
    return found


def _samples(path: str, root: Path, sample_rate: int, scratch: Path) -> np.ndarray:
    """Decode a whole recording as `kws prepare` does background noise: [T] int16."""
    inspection = inspect_background(path, root, sample_rate, scratch)
    if inspection.samples is None:
        raise AudioError(f"{root}: {inspection.message}", inspection.code)
    return inspection.samples


def sources(store: PreparedStore, speech: Sequence[np.ndarray], left_out: Sequence[str] = ()) -> Sources:
    """Take the training split's words, but for those left out, and noise from a store.

    Raises:
        DataError: "no_voice" if a keyword has no clip with a voice; "no_such_word", see `PreparedStore.split`.
    """
    table = store.split(TRAINING, left_out)
    keywords = {word: store.waveforms[table.index[table["label"] == word].to_numpy()] for word in store.labels.keywords}
    others = [store.waveforms[rows.index.to_numpy()] for _, rows in table[table["label"] == UNKNOWN].groupby("word")]
    for word, clips in keywords.items():
        if not has_voice(clips, store.sample_rate):
            raise DataError(f"{word}: none of {len(clips):,} clips for training holds a voice; expected one with 0.1 s "
                            "of sound above -60 dBFS. Record it again, or remove it from data.keywords", "no_voice")
    return replace(surroundings(store, speech, left_out), keywords=list(keywords.values()),
                   others=[clips for clips in others if has_voice(clips, store.sample_rate)])


def surroundings(store: PreparedStore, speech: Sequence[np.ndarray], left_out: Sequence[str] = ()) -> Sources:
    """Take what words are said into: talk, the training split's noise, made-up noise and rooms; no words."""
    table = store.split(TRAINING, left_out)
    made = [(sound * 32767).astype(np.int16) for sound in
            (*sounds(store.sample_rate), *crowds(store.waveforms, table.index.to_numpy()), *places(store.sample_rate),
             *music(store.sample_rate))]
    rng = np.random.default_rng(0)
    return Sources(keywords=[], others=[], speech=speech, backgrounds=[*noise_of_split(store, TRAINING), *made],
                   rooms=[room_response(rng).astype(np.float32) for _ in range(_ROOMS)])
