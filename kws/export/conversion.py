"""From a PyTorch module to an ONNX graph."""
from __future__ import annotations

import copy
import logging
import warnings
from typing import Any, Sequence

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_OPSET, _IR_VERSION = 18, 10  # ONNX Runtime 1.19, the last for the Python 3.9 of TorchServe's image, reads these


def convert(module: nn.Module, example: tuple[torch.Tensor, ...], inputs: Sequence[str], outputs: Sequence[str],
            dynamic_shapes: dict[str, Any]) -> onnx.ModelProto:
    """Convert a module, without a trace of this machine.

    Args:
        module: in evaluation mode.
        example: inputs of usual shapes.
        inputs: their names.
        outputs: names of what it returns.
        dynamic_shapes: by input, the axes whose length may vary, as `torch.export` takes them.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses packages that nobody needs here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(_folded(module), example, dynamo=True, opset_version=_OPSET, verbose=False,
                                    input_names=inputs, output_names=outputs, dynamic_shapes=dynamic_shapes)
    assert program is not None
    proto = program.model_proto
    proto.ir_version = _IR_VERSION
    _forget_origins(proto.graph)
    return proto


def _folded(module: nn.Module) -> nn.Module:
    """Copy a module; a normalisation right after a convolution goes into its weights: fewer layers to trace."""
    module = copy.deepcopy(module)
    for layers in (part for part in module.modules() if isinstance(part, nn.Sequential)):
        parts = list(layers)
        for index, (layer, after) in enumerate(zip(parts, parts[1:])):
            if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                layers[index], layers[index + 1] = fuse_conv_bn_eval(layer, after), nn.Identity()
    return module


def _forget_origins(graph: onnx.GraphProto) -> None:
    """Remove notes on which lines of which files on this machine each part was made by."""
    for part in (graph, *graph.node, *graph.input, *graph.output):
        del part.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _forget_origins(attribute.g)
