"""Graph clean-ups after tracing, on the onnx-ir model: tidy, name, strip.

Each function changes the model in place. None of them knows a network.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}  # the lowest that holds each opset

_LARGE_FILL = 1 << 16
"""Elements; smaller tensors of one value are not worth a node."""

_NEW_IN_18 = {"Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"}}
"""Attributes that opset 18 added, and the value that means the behaviour of opset 17."""

_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2")
"""Opset 18 made their axes an input."""


def tidy(model: ir.Model, opset: int) -> None:
    """Remove what computes nothing or twice, and lower the graph to ``opset``."""
    from onnx_ir.passes import Sequential, common

    Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.DeduplicateInitializersPass(size_limit=1 << 32),
        common.RemoveUnusedNodesPass(),
    )(model)
    for node in model.graph.all_nodes():
        _drop_pointless_allowzero(node)
        _lower(node, opset)
        _drop_defaults(node, opset)
    model.graph.opset_imports[""] = opset
    common.RemoveUnusedNodesPass()(model)  # axes that became attributes
    common.RemoveUnusedOpsetsPass()(model)
    model.ir_version = _IR_VERSIONS[opset]


def fill_at_run_time(model: ir.Model) -> None:
    """Large tensors of one value, which tracing evaluates, are made anew by ``ConstantOfShape``.

    A grid of zeros to scatter into would otherwise be stored in the file, 50 MB and more.
    """
    import onnx_ir as ir

    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.size < _LARGE_FILL or _looks_like_parameter(value.name or ""):
            continue
        array = tensor.numpy()
        if not np.all(array == array.flat[0]):
            continue
        reader = next(iter(value.uses())).node
        fill = ir.tensor(array.reshape(-1)[:1].copy())
        size = ir.tensor(np.array(array.shape, np.int64), name=f"{value.name}_size")
        sizes = ir.Value(
            name=size.name,
            const_value=size,
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([array.ndim]),
        )
        node = ir.node("ConstantOfShape", [sizes], {"value": fill}, name=f"{value.name}_fill")
        node.metadata_props.update(reader.metadata_props)
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        value.replace_all_uses_with(node.outputs[0])
        del model.graph.initializers[str(value.name)]
        model.graph.initializers[str(sizes.name)] = sizes
        model.graph.insert_before(model.graph[0], node)


def name_by_module(model: ir.Model) -> None:
    """Name nodes ``module/path/OpType``, values after their node, constants after their reader.

    Parameters keep their ``state_dict`` names, graph inputs and outputs the caller's.
    """
    graph = model.graph
    fixed = {id(value) for value in (*graph.inputs, *graph.outputs)}
    parameters = {name for name in graph.initializers if _looks_like_parameter(name)}
    counts: Counter[str] = Counter()
    for node in graph.all_nodes():
        stem = "/".join([*_module_path(node), node.op_type])
        node.name = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
        for index, value in enumerate(node.outputs):
            if id(value) not in fixed:
                value.name = f"{node.name}_output_{index}"
    renamed: dict[str, ir.Value] = {}
    for value in list(graph.initializers.values()):
        if value.name not in parameters:
            value.name = _constant_name(value)
        assert value.name is not None
        assert value.const_value is not None
        value.const_value.name = value.name
        renamed[value.name] = value
    graph.initializers.clear()
    graph.initializers.update(renamed)


def strip(model: ir.Model) -> None:
    """Remove stack traces, source paths, doc strings and the exporter's own notes."""
    from onnx_ir.passes import common

    common.ClearMetadataAndDocStringPass()(model)
    graph = model.graph
    made = (value for node in graph.all_nodes() for value in node.outputs)
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values(), *made):
        value.metadata_props.clear()
        value.doc_string = None
    model.metadata_props.clear()
    model.producer_name = "edgeport"
    model.producer_version = None
    model.doc_string = None
    graph.name = "main"


def _module_path(node: ir.Node) -> tuple[str, ...]:
    """``("img_backbone", "layer1.0", "conv1")``: numbers stay with the container they index."""
    scopes = _scopes(node)
    path = scopes[-2] if len(scopes) > 1 else ""  # the last scope is the operator itself
    parts: list[str] = []
    for part in path.split(".") if path else []:
        if part.isdigit() and parts:
            parts[-1] += f".{part}"
        else:
            parts.append(part)
    return tuple(parts)


def _scopes(node: ir.Node) -> list[str]:
    """Module names from the outermost in, as PyTorch's exporter notes them on the node."""
    text = node.metadata_props.get(_SCOPES_KEY)
    if text is None:
        return []
    scopes: list[str] = json.loads(text.replace("'", '"'))
    return scopes


def _looks_like_parameter(name: str) -> bool:
    """Dotted names are module attributes; the exporter's own constants are ``val_7`` or so."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", name) is not None


def _constant_name(value: ir.Value) -> str:
    """``node/input``: after the operator input that reads it first."""
    import onnx

    node, index = next(iter(value.uses()))
    formal = list(onnx.defs.get_schema(node.op_type, node.domain).inputs)
    kind = formal[min(index, len(formal) - 1)].name
    return f"{node.name}/{kind}"


def _drop_pointless_allowzero(node: ir.Node) -> None:
    """``allowzero`` changes nothing where the target shape is constant and has no zero."""
    if node.op_type == "Reshape" and "allowzero" in node.attributes:
        shape = node.inputs[1].const_value if node.inputs[1] is not None else None
        if shape is not None and np.all(shape.numpy() != 0):
            del node.attributes["allowzero"]


def _lower(node: ir.Node, opset: int) -> None:
    """Make ``node`` mean in ``opset`` what it meant in the opset it was traced for.

    Raises:
        ValueError: it uses something newer, which no exporter of ours does.
    """
    import onnx

    if node.domain or opset >= 18:
        return
    for name, harmless in _NEW_IN_18.get(node.op_type, {}).items():
        if name in node.attributes:
            found = _plain(node.attributes[name])
            if found != harmless:
                raise ValueError(f"{node.name}: {name}={found!r} does not exist in opset {opset}")
            del node.attributes[name]
    if node.op_type in _REDUCTIONS:
        _axes_to_attribute(node)
    if node.op_type == "ScatterElements":
        reduction = node.attributes.get("reduction")
        if reduction is not None and _plain(reduction) in (b"max", b"min"):
            raise ValueError(f"{node.name}: reduction max does not exist in opset {opset}")
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    if len(node.inputs) > schema.max_input or any(
        a not in schema.attributes for a in node.attributes
    ):
        raise ValueError(f"{node.name}: {node.op_type} has no such form in opset {opset}")


def _axes_to_attribute(node: ir.Node) -> None:
    """Constant axes of a reduction as the attribute that they were before opset 18."""
    import onnx_ir as ir

    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] else None
    node.attributes.pop("noop_with_empty_axes", None)
    if axes is not None:
        node.resize_inputs(1)
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())


def _drop_defaults(node: ir.Node, opset: int) -> None:
    """Attributes that say what the operator's definition says anyway."""
    import onnx

    if node.domain:
        return
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    for name in list(node.attributes):
        default = schema.attributes[name].default_value
        if default.name and onnx.helper.get_attribute_value(default) == _plain(
            node.attributes[name]
        ):
            del node.attributes[name]


def _plain(attribute: ir.Attr) -> Any:
    """The attribute's value as ``onnx.helper.get_attribute_value`` gives it."""
    value = attribute.value
    if isinstance(value, str):
        return value.encode()
    return list(value) if isinstance(value, tuple) else value
