"""From a model trained for running sound to stream.onnx, which hears it step by step without PyTorch."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import onnx
import torch
from torch import nn

import kws
from kws.export.compaction import compact
from kws.export.conversion import convert
from kws.files.atomic import atomic_file
from kws.model.folder import BLOCK_ROWS, STREAM_FILE, write_detector_rule
from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification
from kws.model.streaming import StreamingClassifier


def write_stream_onnx(model: KwsForAudioClassification, path: Path, second: Optional[nn.Module] = None) -> None:
    """Write the file for running sound: `samples` [B, R * step], `state` [B, S] -> `logits` [B, R, C], `next_state`.

    Args:
        model: what hears all of it.
        path: of the file.
        second: what takes a second look; R is then a multiple of `BLOCK_ROWS`.
    Raises:
        ModelError: "not_streamable" if a network cannot hear running sound.
    """
    streaming = StreamingClassifier(model, second).eval()
    size = streaming.step_samples * (1 if second is None else BLOCK_ROWS)
    batch, blocks = torch.export.Dim("batch"), torch.export.Dim("blocks", min=1, max=100_000)
    example = torch.zeros(2, 3 * size), streaming.initial_state(2)
    proto = convert(streaming, example, ["samples", "state"], ["logits", "next_state"],
                    {"samples": {0: batch, 1: blocks * size}, "state": {0: batch}})
    compact(proto, streaming.features)
    onnx.helper.set_model_props(proto, {
        "labels": json.dumps(list(labels_of(model))), "sample_rate": str(model.config.sample_rate),
        "step_samples": str(streaming.step_samples), "lead_samples": str(streaming.lead_samples),
        "delay_rows": str(streaming.delay_rows), "state_size": str(streaming.state_size),
        "detector": json.dumps(model.config.detector), "version": kws.__version__})
    onnx.save(proto, path)


def write_detector(folder: Path, rule: Mapping[str, Any], advice: Sequence[Mapping[str, Any]]) -> None:
    """Let a rule, the fields of `DetectorSettings`, travel with a model, in config.json and stream.onnx.

    Advice on thresholds is of these very weights: it is in stream.onnx only, as `detector_advice`, and goes with it.

    Raises:
        ModelError: if config.json cannot be read; both files stay as they are.
    """
    proto = onnx.load(folder / STREAM_FILE)
    facts = {item.key: item.value for item in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**facts, "detector": json.dumps(rule),
                                        "detector_advice": json.dumps(advice)})
    with atomic_file(folder / STREAM_FILE) as path:
        onnx.save(proto, path)  # where the disk is full, before config.json changes
        write_detector_rule(folder, rule)
