"""Train a model of own words: prepared store and body -> model folder, and the answers to recordings left out."""
from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Callable, Optional

import pandas as pd
import torch

from kws.config.sections import Config
from kws.corpus.synthesis import SYNTHETIC
from kws.data.layout import speaker_of
from kws.data.noise_bank import NoiseBank
from kws.data.split import TRAINING
from kws.data.store import PreparedStore, load_matching_store
from kws.errors import ConfigError, ModelError
from kws.files.atomic import atomic_folder, check_replaceable
from kws.files.locks import exclusive
from kws.model.folder import CONFIG_FILE, MODEL_TYPE
from kws.model.labels import SILENCE
from kws.model.modeling import KwsForAudioClassification
from kws.training.augment import Augmenter
from kws.training.body import Others, load_others, start_from
from kws.training.left_out import leave_out
from kws.training.model_folder import write_model_folder
from kws.training.own_words import OwnWords
from kws.training.prior import reweight_prior
from kws.training.stream_job import detector_rule, negatives
from kws.training.teaching import Lesson, embed, embed_moments, fit, write_classifier

if TYPE_CHECKING:
    from kws.tracking.tracker import Tracker


def teach(config: Config, tracker: Optional[Tracker] = None,
          complete: Callable[[Path, OwnWords], None] = lambda folder, own: None) -> OwnWords:
    """Train a classifier on the body of `training.start_from`, and write the model folder, whole or not at all.

    Args:
        config: the configuration.
        tracker: receives the start of the training; None disables tracking.
        complete: adds to the new folder before it takes the place of an older one.
    Returns:
        the answers to recordings that were left out in turn.
    Raises:
        ConfigError: if there is no such body, or the configuration's front end is not the body's.
        DataError: if the prepared store is missing or made for other settings.
        ModelError: if the body's folder cannot be used.
    """
    body, settings = config.training.start_from, config.training
    if body is None:
        raise ConfigError("training.start_from", ["found null; expected the folder of a body"])
    store = load_matching_store(config.data.prepared, config.data.sample_rate, config.data.num_samples,
                                config.data.keywords)
    check_replaceable(settings.model, CONFIG_FILE, MODEL_TYPE)
    torch.manual_seed(config.seed)
    if settings.num_threads:  # else PyTorch's own choice, which OMP_NUM_THREADS may name
        torch.set_num_threads(settings.num_threads)
    with exclusive(settings.model, "a training"):
        model, table = start_from(body, store.labels.names, config).eval(), store.split(TRAINING, config.data.left_out)
        others = load_others(body).without(store.labels.keywords)
        if not model.config.architecture.get("embedding"):
            raise ModelError(f"{body}: its network has no embedding; expected a body, the package's own or one of "
                             "scripts/speech_body.py", "no_body")
        if tracker is not None:
            tracker.start(False, {"prepared_digest": store.digest,
                                  "num_parameters": str(sum(part.numel() for part in model.network.head.parameters()))})
        lesson, table = _lesson(config, model, store, table, others), table.reset_index(drop=True)
        pattern, asked = re.compile(config.data.speaker_pattern), lesson.asked & (table["label"] != SILENCE).to_numpy()
        named = all(speaker_of(path, pattern) for path in table.loc[asked, "path"])
        own = leave_out(lesson, table, settings.refused, named)
        write_classifier(fit(lesson), model)
        reweight_prior(model, own.rarity)
        model.config.detector = detector_rule(config)
        _write(config, model, table, own, complete)
    return own


def _lesson(config: Config, model: KwsForAudioClassification, store: PreparedStore, table: pd.DataFrame,
            others: Others) -> Lesson:
    """Embed the recordings of a table, rows of the store's manifest, and the user's own talk."""
    rows = table.index.to_numpy()
    noise = NoiseBank.for_split(store, TRAINING, rows) or NoiseBank.made_up(store, rows)
    augmenter = Augmenter(sample_rate=store.sample_rate, **config.augment.model_dump())
    embeddings = embed(model, store.waveforms[rows], augmenter, noise, config.training.variations, config.seed)
    targets = table["label"].map(store.labels.index).to_numpy()
    synthetic = table["path"].map(lambda path: SYNTHETIC in path.split("/")[1:-1]).to_numpy(dtype=bool)
    with TemporaryDirectory() as scratch:  # of the samples of long recordings
        talk = embed_moments(model, negatives(config, store.sample_rate, Path(scratch)), config.seed)
    return Lesson(embeddings, targets, synthetic, store.labels, others, talk)


def _write(config: Config, model: KwsForAudioClassification, table: pd.DataFrame, own: OwnWords,
           complete: Callable[[Path, OwnWords], None]) -> None:
    left_out = None
    if own.found is not None:
        found, *interval = own.found
        left_out = {"by": "speaker" if own.by_speaker else "take", "found": found, "interval": interval,
                    "others_taken": own.others_taken, "unasked": own.unasked}
    summary = {"recordings": len(table), "speakers": int(table["speaker"].nunique()), "seed": config.seed,
               "left_out": left_out, "num_parameters": model.num_parameters()}
    with atomic_folder(config.training.model) as folder:
        write_model_folder(folder, model, config.data, summary)
        complete(folder, own)
