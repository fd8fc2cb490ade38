"""The canonical form that placement works on; names of nodes and tensors stay what they were.

Constants become initializers, constant chains into weights are evaluated, batch normalisation is
folded into the weighted node before it, every node has a name, shapes are inferred, and the opset
knows per-channel scales (13). What edgeport exports is in this form already; files from elsewhere
often are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import WEIGHTED, attribute, constant, only_reader
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MIN_OPSET = 13  # DequantizeLinear has an axis since then
RAISED_OPSET = 17  # what an older file is raised to: the safest across TensorRT 8.6 to 11

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")
_MAX_CHAIN = 32


def prepare(proto: onnx.ModelProto, name: str = "the model") -> ir.Model:
    """The canonical form of ``proto``, which is left alone.

    Raises:
        UserError: the file is quantized already, holds FP16 weights, or nothing to quantize.
    """
    model = canonical(with_opset(proto, MIN_OPSET, RAISED_OPSET))
    graph = model.graph
    _refuse(graph, name)
    _evaluate_parameters(graph)
    _fold_batch_norms(graph)
    _drop_unused(graph)
    for node in graph:
        _set_kernel_shape(node)
    infer_shapes(model)
    return model


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """``proto`` with constants as initializers, names on all nodes, and shapes; nothing folded."""
    import onnx_ir as ir

    model = ir.from_proto(proto)
    _lift_constants(model.graph)
    _name_nodes(model.graph)
    infer_shapes(model)
    return model


def with_opset(proto: onnx.ModelProto, minimum: int, wanted: int) -> onnx.ModelProto:
    """``proto`` itself if its default opset is at least ``minimum``, else raised to ``wanted``."""
    import onnx
    from onnx import version_converter

    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if opset >= minimum:
        return proto
    try:
        converted = version_converter.convert_version(proto, wanted)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise UserError(
            f"the model has opset {opset} and cannot be raised to {wanted}: {error}",
            fix=f"Export it with opset {wanted} or later",
        ) from error
    if not converted.metadata_props:  # older converters drop the self-description
        converted.metadata_props.extend(proto.metadata_props)
    return converted


def infer_shapes(model: ir.Model) -> None:
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass(data_prop=True)(model)


def _lift_constants(graph: ir.Graph) -> None:
    """``Constant`` nodes become initializers of the same name."""
    import onnx_ir as ir

    for node in [n for n in graph if n.op_type == "Constant"]:
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        if tensor is not None and not node.outputs[0].is_graph_output():
            _replace_by_constant(graph, node, tensor.numpy())


def _name_nodes(graph: ir.Graph) -> None:
    taken = {node.name for node in graph if node.name}
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def _refuse(graph: ir.Graph, name: str) -> None:
    for node in graph:
        if node.op_type.startswith(_QUANTIZED):
            raise UserError(
                f"{name} is quantized already: node {node.name!r} is {node.op_type}",
                fix="Quantize the float model that it was made from",
            )
    nodes = [node for node in graph if node.op_type in WEIGHTED]
    if not nodes:
        raise UserError(
            f"{name} has no {', '.join(sorted(WEIGHTED))}: there is nothing to quantize",
            fix="Check that this is the model you mean: edgeport inspect FILE",
        )
    half = [n for n in nodes if n.inputs[1] is not None and _is_half(n.inputs[1])]
    if half:
        raise UserError(
            f"{name} holds FP16 weights, first in node {half[0].name!r}",
            fix="Quantize the FP32 model and say --rest fp16",
        )


def _is_half(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.name in ("FLOAT16", "BFLOAT16")


def _evaluate_parameters(graph: ir.Graph) -> None:
    """Make initializers of weights and biases that are computed from constants."""
    for node in graph:
        if node.op_type in WEIGHTED or node.op_type == "BatchNormalization":
            for value in node.inputs[1:]:
                if value is not None and constant(value) is None:
                    _evaluate(graph, value, _MAX_CHAIN)


def _evaluate(graph: ir.Graph, value: ir.Value, budget: int) -> bool:
    """Replace ``value`` by its array where it depends on constants alone."""
    if constant(value) is not None:
        return True
    node = value.producer()
    if node is None or budget == 0 or len(node.outputs) != 1 or value.is_graph_output():
        return False
    if not all(v is None or _evaluate(graph, v, budget - 1) for v in node.inputs):
        return False
    feeds = {v.name: constant(v) for v in node.inputs if v is not None and v.name}
    _replace_by_constant(graph, node, _run_node(graph, node, feeds))
    return True


def _run_node(graph: ir.Graph, node: ir.Node, feeds: dict[str, Any]) -> NDArray[Any]:
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_node(node)
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    output = onnx.helper.make_empty_tensor_value_info(proto.output[0])
    tiny = onnx.helper.make_graph([proto], "constant", inputs, [output])
    opset = onnx.helper.make_opsetid("", graph.opset_imports.get("", RAISED_OPSET))
    result = ReferenceEvaluator(onnx.helper.make_model(tiny, opset_imports=[opset])).run(
        None, feeds
    )
    return np.asarray(result[0])  # type: ignore[index]


def _replace_by_constant(graph: ir.Graph, node: ir.Node, array: NDArray[Any]) -> None:
    import onnx_ir as ir

    old = node.outputs[0]
    name = old.name
    new = ir.val(name, const_value=ir.tensor(array, name=name))
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)


def _fold_batch_norms(graph: ir.Graph) -> None:
    """``BN(W x + b) = (g W) x + (g (b - mean) + beta)`` with ``g = gamma / sqrt(var + eps)``."""
    for bn in [n for n in graph if n.op_type == "BatchNormalization"]:
        source = bn.inputs[0]
        node = None if source is None else source.producer()
        if node is None or source is None or only_reader(source) is not bn:
            continue
        if node.op_type in ("Conv", "ConvTranspose") and not attribute(bn, "training_mode", 0):
            _fold_batch_norm(graph, node, bn)


def _fold_batch_norm(graph: ir.Graph, node: ir.Node, bn: ir.Node) -> None:
    import onnx_ir as ir

    weight = constant(node.inputs[1])
    parameters = [constant(v) for v in bn.inputs[1:5]]
    groups = attribute(node, "group", 1)
    axis = 1 if node.op_type == "ConvTranspose" else 0
    if weight is None or any(p is None for p in parameters) or (axis == 1 and groups != 1):
        return
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    gain = gamma / np.sqrt(variance + attribute(bn, "epsilon", 1e-5))
    shape = [1] * weight.ndim
    shape[axis] = -1
    old_bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = gain * ((0.0 if old_bias is None else old_bias) - mean) + beta
    names = [f"{bn.name}/folded_weight", f"{bn.name}/folded_bias"]
    arrays = [weight * gain.reshape(shape), bias]
    values = []
    for name, array in zip(names, arrays, strict=True):
        value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
        graph.register_initializer(value)
        values.append(value)
    node.resize_inputs(3)
    node.replace_input_with(1, values[0])
    node.replace_input_with(2, values[1])
    # keep the name of what the rest of the graph reads
    kept_name = bn.outputs[0].name
    was_output = bn.outputs[0].is_graph_output()
    bn.outputs[0].replace_all_uses_with(node.outputs[0], replace_graph_outputs=was_output)
    node.outputs[0].shape, node.outputs[0].type = bn.outputs[0].shape, bn.outputs[0].type
    graph.remove(bn, safe=True)
    node.outputs[0].name = kept_name


def _drop_unused(graph: ir.Graph) -> None:
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not is_io(v)]:
        del graph.initializers[name]


def is_io(value: ir.Value) -> bool:
    return bool(value.is_graph_input() or value.is_graph_output())


def _set_kernel_shape(node: ir.Node) -> None:
    """TensorRT reads the kernel's size from the attribute where weights come through Q/DQ."""
    import onnx_ir as ir

    if node.op_type in ("Conv", "ConvTranspose") and "kernel_shape" not in node.attributes:
        weight = constant(node.inputs[1])
        if weight is not None:
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", weight.shape[2:])
