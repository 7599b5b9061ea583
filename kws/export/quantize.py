"""An 8-bit version of an exported model, kept only if its accuracy is about the same."""
from __future__ import annotations

import io
import logging
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional

import numpy as np
import onnx
from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                      quant_pre_process, quantize_static)

from kws.errors import ModelError
from kws.export.compaction import compact
from kws.files.atomic import atomic_file
from kws.inference.runtime import OnnxRuntime
from kws.model.features import FoldedLogMel
from kws.model.folder import INT8_FILE, ONNX_FILE
from kws.model.loading import load_torch_model
from kws.model.window import FULL_SCALE

_CALIBRATION_CLIPS = 512
_MAX_LOSS = 0.003
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Measured:
    """An ONNX file: its size, its accuracy 0..1 on the validation clips, and its speed there on one thread."""

    path: Path
    num_bytes: int
    accuracy: float
    clips_per_second: float


def quantize(folder: Path, calibration: np.ndarray, clips: np.ndarray,
             targets: np.ndarray) -> tuple[Measured, Measured]:
    """Add model.int8.onnx to an exported model folder: weights and activations of the network in 8 bits.

    The front end stays in floating point: the range of a power spectrum does not fit into 8 bits.

    Args:
        folder: with a model.onnx.
        calibration: [N', T] int16 training clips; ranges are measured on some of them.
        clips: [N, T] int16 validation clips, to judge by.
        targets: [N] label indices of the validation clips.
    Returns:
        the model as it was, and quantized.
    Raises:
        ModelError: "int8_loses" if it costs more than 0.3 points of accuracy; no file is written then.
    """
    before = measure(folder / ONNX_FILE, clips, targets)
    with atomic_file(folder / INT8_FILE) as path:
        write_int8(folder / ONNX_FILE, path, calibration)
        proto = onnx.load(path)
        compact(proto, FoldedLogMel(load_torch_model(folder).features))
        onnx.save(proto, path)
        after = measure(path, clips, targets)
        if after.accuracy < before.accuracy - _MAX_LOSS:
            raise ModelError(f"{folder / INT8_FILE}: accuracy {after.accuracy:.2%}, in floating point "
                             f"{before.accuracy:.2%}; expected a loss of at most {100 * _MAX_LOSS:g} points. "
                             "Not written", "int8_loses")
    return before, Measured(folder / INT8_FILE, after.num_bytes, after.accuracy, after.clips_per_second)


def measure(path: Path, clips: np.ndarray, targets: np.ndarray) -> Measured:
    """Measure an ONNX file on clips [N, T] int16 with their [N] label indices."""
    runtime = OnnxRuntime(path, threads=1)
    began = time.perf_counter()
    answers = [runtime.logits(batch).argmax(axis=1) for batch in _batches(clips, _BATCH_SIZE)]
    seconds = time.perf_counter() - began
    accuracy = float((np.concatenate(answers) == targets).mean())
    return Measured(path, path.stat().st_size, accuracy, len(clips) / seconds)


def write_int8(source: Path, destination: Path, clips: np.ndarray) -> None:
    """Write the 8-bit version of an ONNX file; ranges are measured on some of the clips [N, T] int16."""
    chosen = np.random.default_rng(0).permutation(len(clips))[:_CALIBRATION_CLIPS]
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        kinds = [node.op_type for node in nodes]
        before_the_stem = nodes[:kinds.index("Conv", kinds.index("Log"))]
        previous = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it warns of every normalisation, by way of the root logger
        try:
            with redirect_stdout(io.StringIO()):  # where it prints its progress
                quantize_static(
                    prepared, destination, _Calibration(clips[chosen]), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    reduce_range=True,  # 7-bit weights: without VNNI, sums of 8-bit products saturate at 16 bits
                    calibrate_method=CalibrationMethod.Percentile,
                    nodes_to_exclude=[node.name for node in before_the_stem])
        finally:
            logging.root.setLevel(previous)


class _Calibration(CalibrationDataReader):
    """Hand clips to the quantizer."""

    def __init__(self, clips: np.ndarray) -> None:
        self._batches = _batches(clips, 1)

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        """Return the next input of the model, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"waveforms": batch}


def _batches(clips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(clips), size):
        yield clips[start:start + size].astype(np.float32) / FULL_SCALE
