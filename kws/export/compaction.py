"""Smaller ONNX files: constants that follow from fewer numbers are computed as the file is loaded, not stored.

An inference engine does that once, before it runs, so that nothing is slower.
"""
from __future__ import annotations

from typing import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kws.model.features import FoldedLogMel

_LARGE = 4096  # numbers; fewer are not worth it
_ROUNDING = 1e-6  # relative


def compact(proto: onnx.ModelProto, front_end: FoldedLogMel) -> None:
    """Make a graph smaller, in place: its front end's products, and weights that 8 bits and a scale make up."""
    made: list[onnx.NodeProto] = []
    kept: list[onnx.TensorProto] = []
    for constant in proto.graph.initializer:
        nodes = list(_fourier(constant.name, front_end) or _of_8_bits(constant))
        made += nodes
        if not nodes:
            kept.append(constant)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    nodes = [*made, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _fourier(name: str, front_end: FoldedLogMel) -> list[onnx.NodeProto]:
    """Compute the cosines or sines of a front end as it does: none if the name is not theirs."""
    names = ["features.cosines", "features.sines"]
    if name not in names:
        return []
    turns, angles = front_end.circle.shape[1], front_end.circle[names.index(name)]
    return [_constant(f"{name}.times", front_end.times.numpy()), _constant(f"{name}.bins", front_end.bins.numpy()),
            _constant(f"{name}.turns", np.array(turns)), _constant(f"{name}.circle", angles.numpy()),
            _constant(f"{name}.weights", front_end.weights.numpy()),
            helper.make_node("Mul", [f"{name}.times", f"{name}.bins"], [f"{name}.products"]),
            helper.make_node("Mod", [f"{name}.products", f"{name}.turns"], [f"{name}.angles"]),
            helper.make_node("Gather", [f"{name}.circle", f"{name}.angles"], [f"{name}.unweighted"]),
            helper.make_node("Mul", [f"{name}.unweighted", f"{name}.weights"], [f"{name}.weighted"]),
            helper.make_node("Cast", [f"{name}.weighted"], [name], to=onnx.TensorProto.FLOAT)]


def _of_8_bits(constant: onnx.TensorProto) -> Iterator[onnx.NodeProto]:
    """Compute a convolution's weights from whole numbers and a scale for each output channel, where that is exact."""
    if constant.data_type != onnx.TensorProto.FLOAT or len(constant.dims) != 4 or np.prod(constant.dims) < _LARGE:
        return
    name, weights = constant.name, numpy_helper.to_array(constant)
    scales = np.abs(weights).max(axis=(1, 2, 3), keepdims=True).clip(np.finfo(np.float32).tiny) / 127
    numbers = (weights / scales).round()
    if not np.allclose(numbers * scales, weights, rtol=_ROUNDING, atol=0):
        return
    yield _constant(f"{name}.numbers", numbers.astype(np.int8))
    yield _constant(f"{name}.scales", scales)
    yield helper.make_node("Cast", [f"{name}.numbers"], [f"{name}.unscaled"], to=onnx.TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{name}.unscaled", f"{name}.scales"], [name])


def _constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))
