"""The larger network of a model folder, which hears again what the first one finds likely in running sound.

Its weights take 8 bits each, with a scale for every output channel: no more words are missed for it, and the file is a
quarter as large. Its architecture is in the file's metadata.
"""
from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Mapping, Optional, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from kws.errors import ModelError, first_line
from kws.files.atomic import atomic_file
from kws.model.folder import SECOND_FILE
from kws.model.modeling import KwsConfig, KwsForAudioClassification
from kws.model.streaming import check_streamable

_SCALE = ".scale"


def larger(model: KwsForAudioClassification, architecture: Mapping[str, Any]) -> KwsForAudioClassification:
    """Make an untrained model of another architecture, with the front end and labels of one.

    Raises:
        ModelError: "not_streamable" if it cannot hear moments of running sound by themselves.
    """
    if architecture.get("embedding") is not None:
        raise ModelError("a second look hears moments without what led to them; expected an architecture "
                         "without embedding", "not_streamable")
    config = cast(KwsConfig, copy.deepcopy(model.config))
    config.architecture = dict(architecture)
    other = KwsForAudioClassification(config)
    check_streamable(other.network)
    return other


def save_second_look(folder: Path, model: KwsForAudioClassification) -> None:
    """Add the network of a model to the folder of another one."""
    tensors = {}
    for name, tensor in model.network.state_dict().items():
        if tensor.ndim > 1:
            scale = tensor.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
            tensors[name + _SCALE] = scale
            tensor = (tensor / _beside(scale, tensor)).round().to(torch.int8)
        tensors[name] = tensor
    with atomic_file(folder / SECOND_FILE) as path:
        save_file(tensors, path, {"architecture": json.dumps(model.config.architecture, sort_keys=True)})


def load_second_look(folder: Path, model: KwsForAudioClassification) -> Optional[nn.Module]:
    """Load the network that takes a second look, None where a folder has none.

    Args:
        folder: that `kws train-streams` wrote.
        model: its first network.
    Raises:
        ModelError: if the file is damaged, or its network has other labels or another front end.
    """
    path = folder / SECOND_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        second = larger(model, architecture).eval()
        second.network.load_state_dict({
            name: tensor.float() * _beside(tensors[name + _SCALE], tensor) if name + _SCALE in tensors else tensor
            for name, tensor in tensors.items() if not name.endswith(_SCALE)})
    except Exception as error:  # safetensors, json and torch each raise their own for a damaged file
        raise ModelError(f"{path}: cannot be loaded ({first_line(error)}); train on for running sound again") from error
    return cast(nn.Module, second.network)


def _beside(scale: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """[K] -> [K, 1, ...], to multiply [K, ...] with."""
    return scale.reshape(-1, *(1 for _ in tensor.shape[1:]))
