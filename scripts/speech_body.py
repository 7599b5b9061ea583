#!/usr/bin/env python
"""Train a body that knows speech, what `kws teach` starts from.

usage: python scripts/speech_body.py configs/speech.yaml --sound talk music --destination models/speech

The network learns to tell apart all words of the store that `kws prepare` made: thousands of words, by many voices;
which of them are keywords does not matter. What it then makes of words and of background noise goes beside it, for the
classifiers of others to learn what is none of their words.
"""
from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional, Sequence, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from kws.commands.cli import EXIT_OK, add_config, guard
from kws.config.architecture import configured_architecture
from kws.config.sections import Config, load_config
from kws.data.noise_bank import NoiseBank
from kws.data.running_sound import Composer
from kws.data.split import TRAINING
from kws.data.store import PreparedStore, load_store
from kws.errors import ConfigError
from kws.files.atomic import atomic_folder
from kws.model.folder import BODY, WEIGHTS_FILE
from kws.model.labels import SILENCE, UNKNOWN
from kws.model.modeling import KwsForAudioClassification, build_model
from kws.model.network import FoldedMelNetwork
from kws.training.augment import Augmenter
from kws.training.body import Others, save_others, start_from
from kws.training.speech_training import SpeechRecipe, train_on_words
from kws.training.stream_job import recordings, surroundings
from kws.training.teaching import embed

_WORDS, _SILENCE = 3400, 200  # so much fits into a wheel
_QUIETEST_DB = -50.0
_LABELS = UNKNOWN, SILENCE  # a body has no keywords


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    add_config(parser)
    parser.add_argument("--sound", type=Path, nargs="+", required=True,
                        help="talk, music, noise to say words into: files and folders")
    parser.add_argument("--destination", type=Path, required=True, help="folder to make")
    return parser.parse_args(argv)


def train(network: KwsForAudioClassification, config: Config, store: PreparedStore, augmenter: Augmenter,
          noise: NoiseBank, sound: Sequence[np.ndarray]) -> KwsForAudioClassification:
    """Train the network on every word of the store's training split; sound is what words are said into."""
    table = store.manifest[store.manifest["split"] == TRAINING].sort_values("word", kind="stable")
    words = np.unique(table["word"].to_numpy(dtype=str), return_inverse=True)[1]
    waveforms, counts = store.waveforms[table.index.to_numpy()], np.bincount(words)
    said = np.split(waveforms, counts.cumsum()[:-1])
    composed = replace(surroundings(store, sound), keywords=said, others=said, shares=counts / len(words))
    streams = config.streams
    recipe = SpeechRecipe(streams.steps, config.training.batch_size, streams.batch_size, streams.seconds,
                          config.training.learning_rate, config.seed)
    return train_on_words(network, waveforms, words, augmenter, noise.draw,
                          Composer(composed, store.sample_rate, streams.seconds, keyword_share=1.0), recipe)


def untrained(config: Config) -> KwsForAudioClassification:
    """Build the network, or take on that of `training.start_from`; raises ConfigError if it has no embedding."""
    architecture = configured_architecture(config).as_json()
    if architecture.get("embedding") is None:
        raise ConfigError(str(config.training.start_from or config.architecture),
                          ["embedding: found none; expected how many numbers it has"])
    if config.training.start_from is not None:
        return start_from(config.training.start_from, _LABELS, config)
    return build_model(_LABELS, config.data.sample_rate, config.data.num_samples, config.features.model_dump(),
                       architecture)


def words_of(model: KwsForAudioClassification, store: PreparedStore, augmenter: Augmenter,
             noise: NoiseBank) -> tuple[np.ndarray, tuple[str, ...]]:
    """Hear words, augmented but for masks: embeddings [N, K] of all in turn, as many as are kept, and their names."""
    table = store.manifest[store.manifest["split"] == TRAINING].sample(frac=1.0, random_state=0)
    order = np.argsort(table.groupby("word").cumcount().to_numpy(), kind="stable")[:_WORDS]
    table = table.iloc[order]
    return embed(model, store.waveforms[table.index.to_numpy()], augmenter, noise, 1, 0)[:, 1], tuple(table["word"])


@torch.inference_mode()
def silence_of(model: KwsForAudioClassification, noise: NoiseBank, generator: torch.Generator) -> np.ndarray:
    """Hear background noise at many levels: [S, K]."""
    gain = 10 ** (_QUIETEST_DB / 20 * torch.rand(_SILENCE, 1, generator=generator))
    features = model.features(noise.draw(generator, _SILENCE) * gain)
    return cast(FoldedMelNetwork, model.network).embed(features).numpy()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Train, and make the folder, whole or not at all."""
    args = parse_args(argv)
    config = load_config(args.config, args.set)
    torch.manual_seed(config.seed)
    network = untrained(config)
    store = load_store(config.data.prepared)
    rows = np.arange(len(store.waveforms))
    noise = NoiseBank.for_split(store, TRAINING, rows) or NoiseBank.made_up(store, rows)
    augmenter = Augmenter(sample_rate=store.sample_rate, **config.augment.model_dump())
    without_masks = Augmenter(sample_rate=store.sample_rate, **{
        **config.augment.model_dump(), "time_masks": 0, "frequency_masks": 0})
    generator = torch.Generator().manual_seed(0)
    with TemporaryDirectory() as scratch:
        sound = recordings(args.sound, store.sample_rate, Path(scratch))
        model = train(network, config, store, augmenter, noise, sound)
        words, names = words_of(model, store, without_masks, noise)
        del sound  # and its maps, before the files
        others = Others(words, names, silence_of(model, noise, generator))
    with atomic_folder(args.destination) as folder:
        model.save_pretrained(folder)
        for module in folder.glob("*.py"):
            module.unlink()  # nobody loads a body without kws
        weights = load_file(folder / WEIGHTS_FILE)
        save_file({name: weight.half() if weight.is_floating_point() else weight for name, weight in weights.items()},
                  folder / WEIGHTS_FILE, {"format": "pt"})
        shutil.copy(BODY / "own.yaml", folder)
        save_others(others, folder)
    print(json.dumps({"words": len(set(names)), "embeddings": len(names)}))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
