"""Load a model folder as a PyTorch module."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from kws.errors import ModelError, first_line
from kws.model.folder import CONFIG_FILE, STREAM_WEIGHTS_FILE
from kws.model.labels import LabelSet

if TYPE_CHECKING:
    from kws.model.modeling import KwsForAudioClassification


def load_torch_model(folder: Path) -> KwsForAudioClassification:
    """Load a model folder as a PyTorch module for inference; raises ModelError if it is none."""
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{folder}: no config.json; expected a model folder that `kws train` wrote", "no_model")
    import torch
    from transformers.utils.logging import disable_progress_bar

    from kws.model.modeling import KwsForAudioClassification

    disable_progress_bar()  # of transformers, for every file it reads
    try:
        return KwsForAudioClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    except Exception as error:  # transformers, safetensors and torch each raise their own for a damaged folder
        raise ModelError(f"{folder}: cannot be loaded ({first_line(error)}); train again") from error


def load_stream_model(folder: Path) -> KwsForAudioClassification:
    """Load a model folder's network for running sound; raises ModelError if it has none.

    A network with an embedding hears both with the same weights; others have some of their own.
    """
    model, path = load_torch_model(folder), folder / STREAM_WEIGHTS_FILE
    if not path.is_file():
        if model.config.detector and model.config.architecture.get("embedding"):
            return model
        raise ModelError(f"{path}: no such file; `kws train-streams` trains the model on for running sound", "no_model")
    from safetensors.torch import load_file

    try:
        model.network.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch each raise their own for a damaged file
        raise ModelError(f"{path}: cannot be loaded ({first_line(error)}); train on for running sound again") from error
    return model


def labels_of(model: KwsForAudioClassification) -> LabelSet:
    """Read a PyTorch model's labels."""
    return LabelSet.from_id2label(cast("dict[int, str]", model.config.id2label))
