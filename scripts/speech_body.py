#!/usr/bin/env python
"""Make a body that knows speech, what `kws teach` starts from, of a network trained on very many words.

usage: python scripts/speech_body.py models/words --config words.yaml --sound talk music --destination models/speech

The network is one that `kws train` trained with every word as a keyword: thousands of words, by many voices, prepared
as words.yaml says. Its classifier is dropped. What the body makes of words, of background noise and of moments of
running sound goes beside it, for the classifiers of others to learn what is none of their words.
"""
from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional, Sequence, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans

from kws.commands.cli import EXIT_OK, guard
from kws.config.sections import load_config
from kws.data.noise_bank import NoiseBank
from kws.data.split import TRAINING
from kws.data.store import PreparedStore, load_store
from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.model.folder import BODY, WEIGHTS_FILE
from kws.model.labels import SILENCE, UNKNOWN
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork
from kws.model.streaming import frame_embeddings
from kws.model.window import FULL_SCALE
from kws.training.augment import Augmenter
from kws.training.body import Others, save_others, start_from
from kws.training.stream_job import recordings
from kws.training.teaching import embed

_WORDS, _SILENCE, _MOMENTS = 2400, 200, 1800  # so much fits into a wheel
_VOICES = 40  # of a word, at most, that tell how much voices differ
_COUNTED = 12  # no word counts more for that than one of so many voices
_SECONDS = 8  # of a piece of running sound
_EDGE = 20  # rows at either end of a piece that lack what is beyond it
_PIECES = 400
_QUIETEST_DB = -50.0


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("model", type=Path, help="folder of the network that was trained on many words")
    parser.add_argument("--config", type=Path, required=True, help="that it was trained by")
    parser.add_argument("--sound", type=Path, nargs="+", required=True, help="talk, music, noise: files and folders")
    parser.add_argument("--destination", type=Path, required=True, help="folder to make")
    return parser.parse_args(argv)


def words_of(model: KwsForAudioClassification, store: PreparedStore, augmenter: Augmenter,
             noise: NoiseBank) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Hear words: embeddings [N, K] of all of them in turn, their names, and the covariance [K, K] within a word."""
    table = store.manifest[store.manifest["split"] == TRAINING].sample(frac=1.0, random_state=0)
    table = table[table.groupby("word").cumcount() < _VOICES]
    embeddings = embed(model, store.waveforms[table.index.to_numpy()], augmenter, noise, 1, 0)[:, 1]
    words, within, count = table["word"].to_numpy(), np.zeros((embeddings.shape[1],) * 2), 0.0
    for word in np.unique(words):
        about = embeddings[words == word] - embeddings[words == word].mean(axis=0)
        share = min(len(about), _COUNTED) / len(about)
        within, count = within + share * about.T @ about, count + share * (len(about) - 1)
    if count == 0:
        raise DataError("every word has one recording; expected several voices of a word", "too_few_clips")
    order = np.argsort(table.groupby("word").cumcount().to_numpy(), kind="stable")[:_WORDS]
    return embeddings[order], tuple(words[order]), (within / count).astype(np.float32)


@torch.inference_mode()
def moments_of(model: KwsForAudioClassification, sound: Sequence[np.ndarray], sample_rate: int) -> np.ndarray:
    """Hear running sound: the middles [R, K] of the clusters of what its moments are like."""
    rng, size = np.random.default_rng(0), _SECONDS * sample_rate
    long = [part for part in sound if len(part) >= size]
    if not long:
        raise DataError(f"no recording lasts {_SECONDS} s; expected running sound", "too_few_clips")
    weights = np.array([len(part) for part in long], dtype=np.float64)
    rows = []
    for index in rng.choice(len(long), _PIECES, p=weights / weights.sum()):
        start = int(rng.integers(len(long[index]) - size + 1))
        piece = torch.from_numpy(long[index][start:start + size].astype(np.float32) / FULL_SCALE)
        rows.append(frame_embeddings(cast(FoldedMelNetwork, model.network), model.features(piece[None]))[0])
    heard = torch.cat([row[_EDGE:-_EDGE] for row in rows]).numpy()
    clusters = MiniBatchKMeans(min(_MOMENTS, len(heard) // 4), random_state=0, n_init=1, batch_size=4096, max_iter=20)
    return np.asarray(clusters.fit(heard).cluster_centers_, dtype=np.float32)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Make the folder, whole or not at all."""
    args = parse_args(argv)
    config = load_config(args.config)
    store, model = load_store(config.data.prepared), load_torch_model(args.model)
    rows = np.arange(len(store.waveforms))
    noise = NoiseBank.for_split(store, TRAINING, rows) or NoiseBank.made_up(store, rows)
    augmenter = Augmenter(sample_rate=store.sample_rate, **config.augment.model_dump())
    words, names, within = words_of(model, store, augmenter, noise)
    generator = torch.Generator().manual_seed(0)
    quiet = 10 ** (_QUIETEST_DB / 20 * torch.rand(_SILENCE, 1, generator=generator))
    with TemporaryDirectory() as scratch, torch.inference_mode():
        network = cast(FoldedMelNetwork, model.network)
        silence = network.embed(model.features(noise.draw(generator, _SILENCE) * quiet)).numpy()
        moments = moments_of(model, recordings(args.sound, store.sample_rate, Path(scratch)), store.sample_rate)
    body = start_from(args.model, (UNKNOWN, SILENCE), config)
    with atomic_folder(args.destination) as folder:
        body.save_pretrained(folder)
        for module in folder.glob("*.py"):
            module.unlink()  # nobody loads a body without kws
        weights = load_file(folder / WEIGHTS_FILE)
        save_file({name: weight.half() if weight.is_floating_point() else weight for name, weight in weights.items()},
                  folder / WEIGHTS_FILE, {"format": "pt"})
        shutil.copy(BODY / "own.yaml", folder)
        save_others(Others(words, names, silence, moments, within), folder)
    print(json.dumps({"words": len(set(names)), "embeddings": len(words), "moments": len(moments)}))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
