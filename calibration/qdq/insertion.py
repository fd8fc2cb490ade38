"""Carry a placement out: insert Q/DQ pairs, make weights and biases integer.

Names stay. What belongs to tensor ``t`` is called ``t/scale``, ``t/zero_point``, ``t/quantized``,
``t/dequantized``; its nodes ``t/QuantizeLinear`` and ``t/DequantizeLinear``. Equal inputs give
equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import Weighted, fresh_name, value_names
from calibration.qdq.placement import Placement, QuantizedTensor
from calibration.qdq.rereading import Rereading
from calibration.qdq.weights import INT8, IntegerWeights, Rounded, WeightForm, integer_weights
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir


def insert(
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    *,
    integer_bias: bool,
    half: bool,
    form: WeightForm = INT8,
    weight_scales: Mapping[str, NDArray[np.float32]] | None = None,
    rounded: Mapping[str, Rounded] | None = None,
) -> list[IntegerWeights]:
    """Quantize ``model`` in place; returns what the weights became, in order of the placement.

    Args:
        scales: of every tensor of ``placement``.
        half: weight scales become FP16 numbers, for a file whose remainder runs in FP16.
        form: what weights become.
        weight_scales: of weights, by initializer name, that lie on a grid already.
        rounded: integers, by initializer name, that are better than the nearest ones.
    """
    editor = _Editor(model.graph)
    readings = _reread(placement, scales)
    off = _offsets(readings, scales)
    shared: dict[Any, ir.Value] = {}
    made = []
    for item in placement.weighted:
        name = item.weight_name
        numbers = integer_weights(
            item,
            scales[item.data].scale if integer_bias else None,
            half=half,
            form=form,
            fixed_scale=(weight_scales or {}).get(name),
            rounded=(rounded or {}).get(name),
            off_by=off.get(item.data, 0.0),
        )
        editor.replace_weight(item, numbers, shared)
        made.append(numbers)
    for tensor in placement.tensors.values():
        reading = readings.get(tensor.value)
        if reading is None:
            editor.insert_pair(tensor, scales[tensor.value])
        else:
            editor.read_again(tensor, scales[tensor.value], reading.source)
    editor.drop_unused()
    return made


def _reread(placement: Placement, scales: Mapping[ir.Value, Scale]) -> dict[ir.Value, Rereading]:
    """The rereadings whose source has the scale that they ask for."""
    return {
        value: reading
        for value, reading in placement.rereadings.items()
        if reading.scale_of_source(scales[value]) == scales[reading.source]
    }


def _offsets(
    readings: Mapping[ir.Value, Rereading], scales: Mapping[ir.Value, Scale]
) -> dict[ir.Value, float]:
    """What every reread tensor is off by, through chains of them."""
    off: dict[ir.Value, float] = {}
    for value, reading in readings.items():
        inherited = reading.gain * off.get(reading.source, 0.0)
        off[value] = inherited + reading.off_by(scales[reading.source], scales[value])
    return off


class _Editor:
    """Edits one graph, with names that nothing else has."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._taken = value_names(graph)
        self._nodes = {node.name for node in graph if node.name}
        self._integers: dict[ir.Value, ir.Value] = {}

    def insert_pair(self, tensor: QuantizedTensor, scale: Scale) -> None:
        """Put one Q/DQ pair behind a tensor and let its readers read the result."""
        value = tensor.value
        uses = list(value.uses())
        parameters = self._parameters(value, scale)
        quantize = self._node("QuantizeLinear", [value, *parameters], value, "quantized")
        quantized = quantize.outputs[0]
        quantized.shape, quantized.type = value.shape, parameters[1].type
        self._integers[value] = quantized
        dequantize = self._node("DequantizeLinear", [quantized, *parameters], value, "dequantized")
        result = dequantize.outputs[0]
        result.shape, result.type = value.shape, value.type
        for node, slot in uses:
            if tensor.whole or (node, slot) in tensor.readers:
                node.replace_input_with(slot, result)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], [quantize, dequantize])
        else:
            self._graph.insert_after(producer, [quantize, dequantize])

    def read_again(self, tensor: QuantizedTensor, scale: Scale, source: ir.Value) -> None:
        """Let the readers of a tensor read the integers of ``source``; its node is removed."""
        value = tensor.value
        node = value.producer()
        assert node is not None  # a tensor that is reread is computed
        integers = self._integers[value] = self._integers[source]
        parameters = self._parameters(value, scale)
        dequantize = self._node("DequantizeLinear", [integers, *parameters], value, "dequantized")
        result = dequantize.outputs[0]
        result.shape, result.type = value.shape, value.type
        self._graph.insert_before(node, dequantize)
        value.replace_all_uses_with(result)
        inputs = [read for read in node.inputs if read is not None]
        self._graph.remove(node, safe=True)
        for read in inputs:
            maker = read.producer()
            if maker is not None and maker.op_type == "DequantizeLinear" and not read.uses():
                self._graph.remove(maker, safe=True)

    def _parameters(self, value: ir.Value, scale: Scale) -> list[ir.Value]:
        zero = np.asarray(scale.zero_point, scale.form.dtype)
        return [
            self._constant(f"{value.name}/scale", np.asarray(scale.scale, np.float32)),
            self._constant(f"{value.name}/zero_point", zero),
        ]

    def replace_weight(
        self, item: Weighted, numbers: IntegerWeights, shared: dict[Any, ir.Value]
    ) -> None:
        """Let a node read integer weights, and an int32 bias if there is one, through DQ."""
        slots: list[tuple[int, IntegerWeights]] = [(item.weight_slot, numbers)]
        if numbers.bias is not None and numbers.bias_scale is not None and item.bias_slot:
            slots.append((item.bias_slot, IntegerWeights(numbers.bias, numbers.bias_scale, 0)))
        for slot, part in slots:
            old = item.node.inputs[slot]
            assert old is not None  # a weighted node has a weight, and numbers.bias is of its bias
            # nodes that share a weight share its integers, unless their inputs' scales differ
            key = (old, part.scale.tobytes(), part.axis)
            if key not in shared:
                shared[key] = self._dequantized(item.node, old, part)
            item.node.replace_input_with(slot, shared[key])

    def drop_unused(self) -> None:
        for name in [n for n, v in self._graph.initializers.items() if not v.uses()]:
            if not self._graph.initializers[name].is_graph_output():
                del self._graph.initializers[name]

    def _dequantized(self, node: ir.Node, old: ir.Value, numbers: IntegerWeights) -> ir.Value:
        zero = np.zeros(numbers.scale.shape, numbers.weight.dtype)
        inputs = [
            self._constant(f"{old.name}/quantized", numbers.weight),
            self._constant(f"{old.name}/scale", numbers.scale),
            self._constant(f"{old.name}/zero_point", zero),
        ]
        attributes: dict[str, Any] = {}
        if numbers.axis is not None and numbers.scale.ndim:
            attributes["axis"] = numbers.axis
        if numbers.block:
            attributes["block_size"] = numbers.block
        dequantize = self._node("DequantizeLinear", inputs, old, "dequantized", attributes)
        self._graph.insert_before(node, dequantize)
        result: ir.Value = dequantize.outputs[0]
        result.shape, result.type = old.shape, old.type
        if old.shape is None or numbers.weight.ndim == len(old.shape):
            return result
        return self._reshaped(node, old, result, numbers.weight.shape)

    def _reshaped(
        self, node: ir.Node, old: ir.Value, matrix: ir.Value, stored: tuple[int, ...]
    ) -> ir.Value:
        """A blocked kernel: TensorRT blocks the last two axes only, so it is kept as a matrix."""
        import onnx_ir as ir

        assert old.shape is not None  # of an initializer
        matrix.shape = ir.Shape(stored)
        shape = self._constant(f"{old.name}/shape", np.array(old.shape.numpy(), np.int64))
        reshape = self._node("Reshape", [matrix, shape], old, "reshaped")
        self._graph.insert_before(node, reshape)
        result: ir.Value = reshape.outputs[0]
        result.shape, result.type = old.shape, old.type
        return result

    def _node(
        self,
        op_type: str,
        inputs: list[ir.Value],
        of: ir.Value,
        role: str,
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Node:
        import onnx_ir as ir

        name = fresh_name(self._nodes, f"{of.name}/{op_type}")
        node = ir.node(op_type, inputs, attributes, name=name)
        node.outputs[0].name = fresh_name(self._taken, f"{of.name}/{role}")
        return node

    def _constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        import onnx_ir as ir

        name = fresh_name(self._taken, name)
        tensor = ir.tensor(array, name=name)
        value = ir.val(name, const_value=tensor, type=ir.TensorType(tensor.dtype))
        self._graph.register_initializer(value)
        return value
