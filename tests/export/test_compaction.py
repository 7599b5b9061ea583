"""Constants that are computed as a file is loaded are those that were there."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from kws.export.compaction import compact
from kws.model.features import FoldedLogMel
from kws.model.folder import INT8_FILE, ONNX_FILE, SHIPPED, STREAM_FILE
from kws.model.loading import load_torch_model

NAMES = ["features.cosines", "features.sines", "exact", "rough", "small"]


@pytest.fixture(scope="module")
def front_end() -> FoldedLogMel:
    return FoldedLogMel(load_torch_model(SHIPPED).features)


@pytest.fixture(scope="module")
def constants(front_end: FoldedLogMel) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    whole = rng.integers(-127, 128, (64, 8, 5, 5)).astype(np.float32)
    whole[:, 0, 0, 0], whole[3] = 127, 0  # a channel of zeros, too
    scales = rng.uniform(1e-4, 1, (64, 1, 1, 1)).astype(np.float32)
    rough = rng.standard_normal((64, 8, 5, 5)).astype(np.float32)
    return dict(zip(NAMES, [front_end.cosines.numpy(), front_end.sines.numpy(), whole * scales, rough, whole[:1]]))


@pytest.fixture
def proto(constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Returns each of its constants."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}.out"]) for name in NAMES], "graph", [],
        [helper.make_tensor_value_info(f"{name}.out", onnx.TensorProto.FLOAT, constants[name].shape)
         for name in NAMES],
        [numpy_helper.from_array(constants[name], name) for name in NAMES])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_they_are_the_same_in_less_space(front_end: FoldedLogMel, constants: dict[str, np.ndarray],
                                         proto: onnx.ModelProto, tmp_path: Path):
    before = proto.ByteSize()
    compact(proto, front_end)
    assert {item.name for item in proto.graph.initializer} == {"rough", "small"}
    assert proto.ByteSize() < before - 3 * constants["exact"].size - 2 * 4 * front_end.cosines.numel() + 30_000
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(NAMES, session.run(None, {})))
    for name in ("features.cosines", "features.sines", "rough", "small"):
        np.testing.assert_array_equal(found[name], constants[name])
    np.testing.assert_allclose(found["exact"], constants["exact"], rtol=1e-6)


def test_an_engine_computes_them_once(front_end: FoldedLogMel, proto: onnx.ModelProto, tmp_path: Path):
    compact(proto, front_end)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    left = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not left & {"Mul", "Mod", "Gather", "Cast"}


@pytest.mark.parametrize("file", [ONNX_FILE, INT8_FILE, STREAM_FILE])
def test_the_shipped_files_are_compact(front_end: FoldedLogMel, file: str):
    proto = onnx.load(SHIPPED / file)
    size = proto.ByteSize()
    assert not {"features.cosines", "features.sines"} & {item.name for item in proto.graph.initializer}
    compact(proto, front_end)
    assert proto.ByteSize() == size


def test_compacting_again_changes_nothing(front_end: FoldedLogMel, proto: onnx.ModelProto):
    compact(proto, front_end)
    once = proto.SerializeToString()
    compact(proto, front_end)
    assert proto.SerializeToString() == once
