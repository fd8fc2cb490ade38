"""A Q/DQ model without its Q/DQ: the float network, and the scale of each tensor that had one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporters.errors import UserError
from runtimes.base import Array
from runtimes.graphview import GraphView, describe

if TYPE_CHECKING:
    import onnx

_SYMMETRIC = "Quantize symmetrically to int8: edgeport quantize --policy tensorrt"
_QUANTIZATION = "edgeport.quantization"


@dataclass(frozen=True)
class Plain:
    """``scales``: tensor -> scale of its QuantizeLinear; ``weights``: how many became floats."""

    model: onnx.ModelProto
    scales: Mapping[str, float]
    weights: int


def without_qdq(proto: onnx.ModelProto) -> Plain:
    """Take the QuantizeLinear and DequantizeLinear nodes of the main graph out of ``proto``.

    Raises:
        UserError: a zero point, a scale a channel on an activation, two scales for one tensor, or
            integers that enter or leave the model.
    """
    model = type(proto)()
    model.CopyFrom(proto)
    removal = _Removal(model)
    removal.run()
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key == _QUANTIZATION:  # it is no longer true
            del model.metadata_props[index]
    return Plain(model, removal.scales, removal.weights)


class _Removal:
    """One pass over the nodes; ``_floats`` maps each Q/DQ output to the tensor it stands for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._view = GraphView(model)
        self._floats: dict[str, str] = {}
        self._outputs = {value.name for value in model.graph.output}
        self.scales: dict[str, float] = {}
        self.weights = 0

    def run(self) -> None:
        import onnx

        kept: list[onnx.NodeProto] = []
        for node in self._graph.node:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(node)
                if node.output[0] in self._outputs:
                    source = self._floats[node.output[0]]
                    kept.append(onnx.helper.make_node("Identity", [source], [node.output[0]]))
            else:
                for index, name in enumerate(node.input):
                    node.input[index] = self._floats.get(name, name)
                kept.append(node)
        del self._graph.node[:]
        self._graph.node.extend(kept)
        self._drop_unused()

    def _quantize(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self._outputs:
            raise UserError(
                f"output {node.output[0]!r} is quantized, and a DLA file has float outputs",
                fix="Quantize without integer outputs",
            )
        source = self._floats.get(node.input[0], node.input[0])
        self._floats[node.output[0]] = source
        if self._view.constant(node, 0) is not None:
            return  # a weight that is a float already
        scale = self._scale(node)
        if scale.size != 1:
            raise UserError(
                f"tensor {source!r} has {scale.size} scales, one a channel; a DLA takes one",
                fix=_SYMMETRIC,
            )
        value = float(scale.reshape(-1)[0])
        if self.scales.setdefault(source, value) != value:
            raise UserError(
                f"tensor {source!r} is quantized with the scales {self.scales[source]:g} and "
                f"{value:g}; a DLA takes one for each tensor",
                fix=_SYMMETRIC,
            )

    def _dequantize(self, node: onnx.NodeProto) -> None:
        if node.input[0] in self._floats:
            self._floats[node.output[0]] = self._floats[node.input[0]]
            return
        integers = self._view.constant(node, 0)
        if integers is None:
            raise UserError(
                f"node {describe(node)!r} dequantizes {node.input[0]!r}, which no QuantizeLinear "
                "of the model has made; a DLA file has float inputs",
                fix="Quantize without integer inputs",
            )
        self._floats[node.output[0]] = self._float_weight(node, integers)

    def _float_weight(self, node: onnx.NodeProto, integers: Array) -> str:
        import onnx

        scale = self._scale(node)
        if scale.size > 1:
            axis = self._view.attribute(node, "axis")
            shape = [1] * integers.ndim
            shape[1 if axis is None else axis] = -1
            scale = scale.reshape(shape)
        name = node.output[0]
        weight = (integers.astype(np.float32) * scale).astype(scale.dtype)
        self._graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
        self.weights += 1
        return name

    def _scale(self, node: onnx.NodeProto) -> Array:
        scale, zero_point = self._view.constant(node, 1), self._view.constant(node, 2)
        if scale is None:
            raise UserError(
                f"node {describe(node)!r} computes its scale while it runs; a DLA needs it before",
                fix=_SYMMETRIC,
            )
        if zero_point is not None and (zero_point.dtype != np.int8 or zero_point.any()):
            raise UserError(
                f"node {describe(node)!r} quantizes to {zero_point.dtype} with a zero point; a DLA "
                "takes int8 around zero",
                fix=_SYMMETRIC,
            )
        return scale

    def _drop_unused(self) -> None:
        used = {name for node in self._graph.node for name in node.input} | self._outputs
        for index in reversed(range(len(self._graph.initializer))):
            if self._graph.initializer[index].name not in used:
                del self._graph.initializer[index]
        del self._graph.value_info[:]  # it spoke of tensors that are gone
