"""From a trained model folder to files that run without PyTorch: model.onnx, and model.pt for TorchServe."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np
import onnx
import torch
from torch import nn

import kws
from kws.errors import ModelError
from kws.export.compaction import compact
from kws.export.conversion import convert
from kws.export.to_stream import write_stream_onnx
from kws.files.atomic import atomic_file
from kws.inference.runtime import OnnxRuntime, open_session
from kws.model.features import FoldedLogMel
from kws.model.folder import BLOCK_ROWS, ONNX_FILE, STATE_FILE, STREAM_FILE
from kws.model.loading import labels_of, load_stream_model, load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.second_look import load_second_look
from kws.model.streaming import StreamingClassifier
from kws.model.window import FULL_SCALE

_TOLERANCE = 1e-4
_BATCH_SIZE = 64
_STREAM_CLIPS = 16  # few, so that no row is likely to lie where its last bit decides on a second look


@dataclass(frozen=True)
class Export:
    """What was written: the largest difference of a logit between PyTorch and ONNX Runtime over `clips` clips."""

    path: Path
    difference: float
    clips: int


class WaveformClassifier(nn.Module):
    """The graph that is exported: `waveforms` [B, T] -> logits [B, C], the front end as products of matrices."""

    def __init__(self, model: KwsForAudioClassification) -> None:
        super().__init__()
        self.features, self.network = FoldedLogMel(model.features), model.network

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, C]."""
        return self.network(self.features(waveforms))


def export(folder: Path, clips: np.ndarray) -> Export:
    """Add model.onnx and model.pt to a model folder, and stream.onnx if it was trained on for running sound.

    No ONNX file is written unless ONNX Runtime answers as PyTorch does.

    Args:
        folder: that `kws train` wrote.
        clips: [N, T] int16 real recordings to compare on, besides generated ones; N may be 0.
    Raises:
        ModelError: "bad_export" if a logit differs by more than 1e-4, or the clips are not of the model's length.
    """
    model = load_torch_model(folder)
    if len(clips) and clips.shape[1] != model.config.num_samples:
        raise ModelError(f"{folder}: listens to {model.config.num_samples:,} samples; the clips to compare on have "
                         f"{clips.shape[1]:,}. Give the configuration that it was trained with", "bad_export")
    with atomic_file(folder / ONNX_FILE) as path:
        write_onnx(model, path)
        difference, count = compare(model, OnnxRuntime(path), clips)
        _check(folder / ONNX_FILE, difference)
    if model.config.detector:
        heard = _batches(clips[:_STREAM_CLIPS], model.config.num_samples)
        _export_stream(folder, np.concatenate([batch.ravel() for batch in heard]))
    with atomic_file(folder / STATE_FILE) as path, path.open("wb") as file:  # by its path, its name would be inside
        torch.save(model.state_dict(), file)
    return Export(folder / ONNX_FILE, difference, count)


def _export_stream(folder: Path, sound: np.ndarray) -> None:
    """Add stream.onnx to a folder; it is compared on a sound [T]."""
    model = load_stream_model(folder)
    second = load_second_look(folder, model)
    with atomic_file(folder / STREAM_FILE) as path:
        write_stream_onnx(model, path, second)
        difference = compare_streams(StreamingClassifier(model, second).eval(), path, sound)
        _check(folder / STREAM_FILE, difference)


def _check(path: Path, difference: float) -> None:
    if not difference <= _TOLERANCE:  # nor NaN
        raise ModelError(f"{path}: the exported model's logits differ by {difference:.2g}; expected at most "
                         f"{_TOLERANCE:g}", "bad_export")


def write_onnx(model: KwsForAudioClassification, path: Path) -> None:
    """Write the ONNX file: `waveforms` [batch, T] -> `logits` [batch, C], labels and rate in its metadata."""
    classifier = WaveformClassifier(model).eval()
    proto = convert(classifier, (torch.zeros(2, model.config.num_samples),), ["waveforms"], ["logits"],
                    {"waveforms": {0: torch.export.Dim("batch")}})
    compact(proto, classifier.features)
    onnx.helper.set_model_props(proto, {
        "labels": json.dumps(list(labels_of(model))), "sample_rate": str(model.config.sample_rate),
        "num_samples": str(model.config.num_samples), "version": kws.__version__})
    onnx.save(proto, path)


def compare(model: KwsForAudioClassification, runtime: OnnxRuntime, clips: np.ndarray) -> tuple[float, int]:
    """Find the largest difference of a logit, over real clips [N, T] int16 and generated ones, and their number."""
    largest, count = 0.0, 0
    for batch in _batches(clips, model.config.num_samples):
        with torch.inference_mode():
            expected = model(torch.from_numpy(batch)).logits.numpy()
        largest = max(largest, float(np.abs(expected - runtime.logits(batch)).max()))
        count += len(batch)
    return largest, count


def compare_streams(streaming: StreamingClassifier, path: Path, sound: np.ndarray) -> float:
    """Find the largest difference of a logit over running sound [T], heard forwards and, beside it, backwards.

    The second of two calls goes on from what the first one remembers.
    """
    exported, size = open_session(path, 1), BLOCK_ROWS * streaming.step_samples
    blocks = len(sound) // size
    sounds = np.stack([sound, sound[::-1]])[:, :blocks * size]
    expected_state = streaming.initial_state(2)
    state, largest = expected_state.numpy(), 0.0
    for part in np.split(sounds, [blocks // 3 * size], axis=1):
        with torch.inference_mode():
            expected, expected_state = streaming(torch.from_numpy(part.copy()), expected_state)
        found, state = exported.run(["logits", "next_state"], {"samples": part.copy(), "state": state})
        largest = max(largest, float(np.abs(expected.numpy() - found).max()))
    return largest


def _batches(clips: np.ndarray, num_samples: int) -> Iterator[np.ndarray]:
    """Noise at levels from full scale to nothing, alone and in a batch, then the real clips."""
    levels = 10.0 ** -np.arange(8)[:, None]
    noise = (np.random.default_rng(0).uniform(-1, 1, size=(8, num_samples)) * levels).astype(np.float32)
    yield from (noise, noise[:1], np.zeros((3, num_samples), dtype=np.float32))
    for start in range(0, len(clips), _BATCH_SIZE):
        yield clips[start:start + _BATCH_SIZE].astype(np.float32) / FULL_SCALE
