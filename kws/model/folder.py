"""What a model folder holds, and the folder that ships with the package."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from kws.errors import ModelError, first_line
from kws.files.atomic import atomic_file

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
ONNX_FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
STREAM_WEIGHTS_FILE = "stream.safetensors"  # of the same network, trained on for running sound
SECOND_FILE = "second_look.safetensors"  # of a larger network, which hears again what that one finds likely
STREAM_FILE = "stream.onnx"  # hears running sound, and recordings longer than the window
OTHERS_FILE = "other_words.safetensors"  # what a body makes of words that are not the keywords
BLOCK_ROWS = 5  # of logits, which it computes at once
STATE_FILE = "model.pt"  # for TorchServe's archiver

MODEL_TYPE = '"model_type": "kws"'  # in the configuration of every model folder of ours

_PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
SHIPPED = _PRETRAINED / "kws-8"
BODY = _PRETRAINED / "speech"  # knows speech, not words: what `kws teach` starts from


def write_detector_rule(folder: Path, rule: Mapping[str, Any]) -> None:
    """Let a rule for running sound, the fields of `DetectorSettings`, travel with a model, in its config.json.

    Raises:
        ModelError: if config.json cannot be read; it stays as it is.
    """
    try:
        config = {**json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")), "detector": rule}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: cannot be read ({first_line(error)}); copy the folder again, or "
                         "train again") from error
    with atomic_file(folder / CONFIG_FILE) as path:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
