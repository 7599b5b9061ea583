import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from kws.errors import ModelError
from kws.inference.runtime import OnnxRuntime, TorchRuntime, load_runtime
from kws.model.loading import load_torch_model


@pytest.fixture(scope="module")
def waveforms():
    levels = np.array([1.0, 0.1, 1e-3, 0.0, 0.3], dtype=np.float32)[:, None]
    return levels * np.random.default_rng(0).uniform(-1, 1, (5, 16000)).astype(np.float32)


def test_the_runtimes_agree(exported, waveforms):
    onnx_runtime, torch_runtime = load_runtime(exported), load_runtime(exported, "torch")
    assert isinstance(onnx_runtime, OnnxRuntime) and isinstance(torch_runtime, TorchRuntime)
    assert onnx_runtime.labels == torch_runtime.labels and len(onnx_runtime.labels) == 4
    assert (onnx_runtime.sample_rate, onnx_runtime.num_samples) == (16000, 16000) \
        == (torch_runtime.sample_rate, torch_runtime.num_samples)
    logits = onnx_runtime.logits(waveforms)
    assert logits.shape == (5, 4) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, torch_runtime.logits(waveforms), atol=1e-5)
    assert np.ptp(logits, axis=0).max() > 1e-3  # or agreement would mean nothing


def test_a_clip_is_answered_alike_alone_and_in_a_batch(exported, waveforms):
    runtime = load_runtime(exported)
    alone = np.concatenate([runtime.logits(waveforms[row:row + 1]) for row in range(len(waveforms))])
    np.testing.assert_allclose(runtime.logits(waveforms), alone, atol=1e-5)


def test_one_onnx_file_is_a_model(exported, waveforms):
    np.testing.assert_array_equal(load_runtime(exported / "model.onnx").logits(waveforms),
                                  load_runtime(exported).logits(waveforms))


def test_a_model_that_was_not_exported_runs_in_pytorch(exported, tmp_path):
    load_torch_model(exported).save_pretrained(tmp_path)
    assert isinstance(load_runtime(tmp_path), TorchRuntime)
    with pytest.raises(ModelError, match="kws export"):
        load_runtime(tmp_path, "onnx")


@pytest.mark.parametrize("name", ["", "absent", "absent.onnx"])
def test_what_is_no_model_is_named(tmp_path, name):
    with pytest.raises(ModelError, match=str(tmp_path / name)) as caught:
        load_runtime(tmp_path / name)
    assert caught.value.code == "no_model"


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x0a" * 100])
def test_a_damaged_onnx_file_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        OnnxRuntime(tmp_path / "model.onnx")


def test_an_onnx_file_of_another_program_is_refused(exported, tmp_path):
    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="no labels or sample rate"):
        OnnxRuntime(tmp_path / "other.onnx")


def test_loading_takes_no_torch_and_little_memory(exported):
    code = ("import json, pathlib, re, sys; from kws import KeywordSpotter; KeywordSpotter(sys.argv[1]); "
            "peak = re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text()); "
            "print(json.dumps([sorted({'torch', 'transformers', 'pandas', 'onnx', 'matplotlib'} & set(sys.modules)), "
            "int(peak[1]) / 1024]))")
    done = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True, check=True)
    heavy, megabytes = json.loads(done.stdout)
    assert heavy == [] and megabytes <= 150
