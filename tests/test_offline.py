"""Labelling is nobody else's business: no identifier is kept, no report is sent."""
import json
import os
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from kws.model.labels import LabelSet

LOAD = "import pathlib, sys; from kws.inference.runtime import OnnxRuntime; OnnxRuntime(pathlib.Path(sys.argv[1]))"
# ONNX Runtime itself keeps quiet where it sees one of these; a user's machine has none.
QUIETING = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "BUILD_ID", "JENKINS_URL", "ORT_RUNNING_UNIT_TESTS",
            "ORT_DISABLE_TELEMETRY")
FOLDERS = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")


@pytest.fixture
def onnx_file(tmp_path):
    """The least that OnnxRuntime takes: the logits are the first samples of the waveform."""
    labels = list(LabelSet.from_keywords(("yes", "no")))
    first, last, axis = (helper.make_tensor(name, TensorProto.INT64, [1], [value])
                         for name, value in (("first", 0), ("last", len(labels)), ("axis", 1)))
    graph = helper.make_graph(
        [helper.make_node("Slice", ["waveforms", "first", "last", "axis"], ["logits"])], "tiny",
        [helper.make_tensor_value_info("waveforms", TensorProto.FLOAT, ["batch", 100])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(labels)])], [first, last, axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"labels": json.dumps(labels), "sample_rate": "16000", "num_samples": "100"})
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_loading_a_model_leaves_no_identifier(onnx_file, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in (*QUIETING, *FOLDERS)}
    subprocess.run([sys.executable, "-c", LOAD, str(onnx_file)], check=True,
                   env={**environment, "HOME": str(home), "TMPDIR": str(home)})
    assert [path for path in home.rglob("*") if path.is_file()] == []
