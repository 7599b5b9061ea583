"""What a model folder holds, and the folders that ship with the package."""
from __future__ import annotations

from pathlib import Path

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
ONNX_FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
STREAM_FILE = "stream.onnx"  # of a model for running sound
STATE_FILE = "model.pt"  # for TorchServe's archiver

MODEL_TYPE = '"model_type": "kws"'  # in the configuration of every model folder of ours

_PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
SHIPPED, SHIPPED_STREAMS = _PRETRAINED / "kws-8", _PRETRAINED / "kws-8-streams"  # for clips, for running sound
