"""Run a trained model: waveforms [B, T] in, logits [B, C] out, by ONNX Runtime or by PyTorch."""
from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Protocol, cast

import numpy as np

from kws.errors import ModelError, first_line
from kws.files.atomic import recover
from kws.model.folder import CONFIG_FILE, ONNX_FILE
from kws.model.labels import LabelSet
from kws.model.loading import labels_of, load_torch_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from kws.model.modeling import KwsForAudioClassification

RUNTIMES = ("onnx", "torch")


class Runtime(Protocol):
    """A model that is ready to run; safe to call from several threads."""

    labels: LabelSet
    sample_rate: int
    num_samples: int
    digest: str  # of all that decides the logits: two models of one digest are the same

    def logits(self, waveforms: np.ndarray) -> np.ndarray:
        """[B, T] float32 in -1..1 at `sample_rate`, T = `num_samples` -> [B, C] float32."""


def open_session(path: Path, threads: int) -> InferenceSession:
    """Load an ONNX file on the CPU; raises ModelError if it is missing or damaged."""
    # Its builds for Linux (1.29 on) report to their maker and keep an identifier; read at the first import only.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"{path}: no such file; `kws export` makes it from a model folder", "no_model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for every way in which a file can be wrong
        raise ModelError(f"{path}: cannot be loaded ({first_line(error)}); export it again") from error


class OnnxRuntime:
    """An exported model on the CPU.

    Args:
        path: of the ONNX file; labels and sample rate are in its metadata.
        threads: that one call may use; 0: as many as the machine has cores.

    Raises:
        ModelError: if the file is missing, damaged, or was not written by `kws export`.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._session = open_session(path, threads)
        self.digest = f"onnx {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            self.labels = LabelSet(tuple(json.loads(metadata["labels"])))
            self.sample_rate, self.num_samples = int(metadata["sample_rate"]), int(metadata["num_samples"])
        except (KeyError, ValueError):
            raise ModelError(f"{path}: no labels or sample rate in its metadata; expected a file that "
                             "`kws export` wrote") from None

    def logits(self, waveforms: np.ndarray) -> np.ndarray:
        """[B, T] float32 -> [B, C] float32."""
        return cast(np.ndarray, self._session.run(["logits"], {"waveforms": waveforms})[0])


class TorchRuntime:
    """A model as PyTorch runs it, on a GPU where there is one.

    Args:
        model: as `load_torch_model` gives it.
        threads: of the CPU; 0: as many as the machine has cores.
    """

    def __init__(self, model: KwsForAudioClassification, threads: int = 0) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._model = torch, model
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)  # type: ignore[arg-type]  # transformers' wrapper hides the signature
        self.labels = labels_of(self._model)
        self.sample_rate, self.num_samples = self._model.config.sample_rate, self._model.config.num_samples
        digest = hashlib.sha256(self._model.config.to_json_string().encode())
        for name, tensor in self._model.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        self.digest = f"torch {digest.hexdigest()[:16]}"

    def logits(self, waveforms: np.ndarray) -> np.ndarray:
        """[B, T] float32 -> [B, C] float32."""
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(waveforms).to(self._device)
            return cast(np.ndarray, self._model(batch).logits.cpu().numpy())


def load_runtime(model: Path, kind: Optional[str] = None, threads: int = 0) -> Runtime:
    """Load a model folder, or one ONNX file of it.

    Args:
        model: folder or `.onnx` file.
        kind: "onnx" or "torch"; None takes ONNX Runtime where the model has been exported and it is installed.
        threads: that one call may use; 0: as many as the machine has cores.
    Raises:
        ModelError: if there is no model, or nothing to run it with.
    """
    if model.suffix == ".onnx":
        return OnnxRuntime(model, threads)
    recover(model)
    if not (model / CONFIG_FILE).is_file():
        raise ModelError(f"{model}: no config.json; expected a model folder that `kws train` wrote", "no_model")
    exported = (model / ONNX_FILE).is_file()
    if kind == "onnx" or (kind is None and exported and _is_installed("onnxruntime")):
        return OnnxRuntime(model / ONNX_FILE, threads)
    if not (_is_installed("torch") and _is_installed("transformers")):
        remedy = f"run `kws export {model}` where it was trained"
        if exported:
            remedy = "take the runtime onnx" if kind == "torch" else "install onnxruntime"
        raise ModelError(f"{model}: nothing here to run it with; {remedy}", "no_runtime")
    return TorchRuntime(load_torch_model(model), threads)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
