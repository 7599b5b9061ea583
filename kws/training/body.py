"""What a network learned before, carried over to other words: its body, or all of it for running sound."""
from __future__ import annotations

import copy
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence, cast

import numpy as np
from torch import nn

from kws.config.sections import Config
from kws.errors import ConfigError, ModelError
from kws.model.folder import OTHERS_FILE
from kws.model.labels import normal
from kws.model.loading import labels_of, load_stream_model, load_torch_model
from kws.model.modeling import KwsConfig, KwsForAudioClassification
from kws.model.second_look import load_second_look

logger = logging.getLogger(__name__)

_EMBEDDINGS = "words", "silence"
_STEPS = 31  # each way; the rounding is a twentieth of how much voices vary, and a third of the file is saved


@dataclass(frozen=True)
class Others:
    """What a body makes of sound that is none of a user's words; it comes in the body's folder.

    Args:
        words: [N, K] embeddings of many words by many voices.
        names: [N] which words.
        silence: [S, K] embeddings of sound without speech.
    """

    words: np.ndarray
    names: tuple[str, ...]
    silence: np.ndarray

    def keep(self, rows: np.ndarray) -> Others:
        """Keep some of the words."""
        return replace(self, words=self.words[rows], names=tuple(self.names[row] for row in rows))

    def without(self, keywords: Sequence[str]) -> Others:
        """Leave out the words that are keywords themselves."""
        left = {normal(keyword).casefold() for keyword in keywords}
        return self.keep(np.array([row for row, name in enumerate(self.names) if name.casefold() not in left]))


def start_from(folder: Path, labels: Sequence[str], config: Config) -> KwsForAudioClassification:
    """Build a model for these labels on the body of another one; its classifier is untrained.

    Raises:
        ConfigError: if the configuration's front end or window is not that of the body.
        ModelError: if the folder holds no model.
    """
    model = load_torch_model(folder)
    _check_front_end(folder, model, config)
    settings = cast(KwsConfig, copy.deepcopy(model.config))
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: index for index, label in enumerate(labels)}
    settings.keyword_rarity, settings.detector = 1.0, {}
    started = KwsForAudioClassification(settings)
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("network.head.")}
    started.load_state_dict(weights, strict=False)
    return started


def start_on_sound(folder: Path, models: Sequence[KwsForAudioClassification]) -> None:
    """Give models the weights for running sound of a folder's networks, in place, where one differs in its labels only.

    Rows of the classifier go by label; a keyword that the folder does not know starts as other words do. A model of
    another architecture or front end stays as it is, and that is logged.

    Args:
        folder: that `kws train-streams` wrote.
        models: to train.
    Raises:
        ModelError: if the folder has no network for running sound.
    """
    known = load_stream_model(folder)
    second = load_second_look(folder, known)
    networks = [network for network in (known.network, second) if network is not None]
    for model in models:
        if not any(_take_over(model, network, known) for network in networks):
            logger.warning("%s: no network for running sound is like the one of %s parameters, which starts without",
                           folder, f"{sum(weight.numel() for weight in model.network.parameters()):,}")


def _take_over(model: KwsForAudioClassification, network: nn.Module, known: KwsForAudioClassification) -> bool:
    """Give a model the weights of a network with the front end and labels of another; False if it is not like it."""
    labels = labels_of(known)
    rows = [labels.index(labels.label_of(name)) for name in labels_of(model)]
    weights = {name: weight[rows] if name.startswith("head.") else weight
               for name, weight in network.state_dict().items()}
    expected = {name: weight.shape for name, weight in model.network.state_dict().items()}
    if ((model.config.sample_rate, model.config.features) != (known.config.sample_rate, known.config.features)
            or {name: weight.shape for name, weight in weights.items()} != expected):
        return False
    model.network.load_state_dict(weights)
    return True


def load_others(folder: Path) -> Others:
    """Read what a body makes of other words and of silence; raises ModelError if its folder does not say."""
    from safetensors import safe_open

    path = folder / OTHERS_FILE
    try:
        with safe_open(path, "numpy") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
        return Others(**{name: tensors[name] * tensors["scale"] for name in _EMBEDDINGS},
                      names=tuple(json.loads(metadata["names"])))
    except Exception as error:  # safetensors raises its own for a damaged file
        raise ModelError(f"{path}: cannot be read ({error}); expected what comes with a body, as the package's own "
                         "has it", "no_body") from None


def save_others(others: Others, folder: Path) -> None:
    """Write them to a body's folder, embeddings in a few steps up to the largest value of each number."""
    from safetensors.numpy import save_file

    found = {name: getattr(others, name) for name in _EMBEDDINGS}
    scale = np.abs(np.concatenate(list(found.values()))).max(axis=0).clip(1e-6) / _STEPS
    save_file({**{name: np.round(rows / scale).astype(np.int8) for name, rows in found.items()},
               "scale": scale.astype(np.float32)}, folder / OTHERS_FILE,
              {"names": json.dumps(others.names, ensure_ascii=False)})


def _check_front_end(folder: Path, model: KwsForAudioClassification, config: Config) -> None:
    """A body understands only what its own front end makes of sound."""
    expected = {"data.sample_rate": model.config.sample_rate,
                "data.clip_seconds": model.config.num_samples / model.config.sample_rate,
                **{f"features.{name}": value for name, value in model.config.features.items()}}
    found = {"data.sample_rate": config.data.sample_rate, "data.clip_seconds": config.data.clip_seconds,
             **{f"features.{name}": value for name, value in config.features.model_dump().items()}}
    problems = [f"{name}: found {found.get(name)!r}; expected {value!r}, as in {folder}"
                for name, value in expected.items() if found.get(name) != value]
    if problems:
        raise ConfigError("training.start_from", problems)
