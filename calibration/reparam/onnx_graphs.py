"""Branch fusion on ONNX graphs: RepVGG, MobileOne and RepLKNet blocks become one convolution.

Works on files exported with their training-time branches. A sum is followed upwards through Add,
Sub, per-channel Mul, inference batch norm and convolutions; where everything under it is linear in
one tensor, it is replaced by one Conv (`branches` has the algebra). Each replacement is
run beside the original block on random input before it is accepted. Sums that stay are listed with
the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.affine import Affine, affine_of
from calibration.graph.conv import conv_geometry
from calibration.graph.prepare import is_io, prepare
from calibration.graph.queries import (
    constant,
    fresh_name,
    only_reader,
    value_names,
    weighted,
)
from calibration.reparam.branches import Branch, Term, after_sum, merge
from calibration.samples.base import Array
from exporters.errors import EdgeportError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_ROOTS = frozenset({"Add", "Sub", "BatchNormalization"})

TOLERANCE = 1e-4
"""Largest difference, over the largest output, of a fused block: float32 sums in another order."""


@dataclass(frozen=True)
class FusedBlock:
    """Several nodes that became one convolution.

    Attributes:
        node: name of the convolution, that of the largest branch.
        parts: names of the nodes it replaces, in graph order.
        difference: largest difference of the outputs on random input, over the largest output.
    """

    node: str
    parts: tuple[str, ...]
    difference: float


@dataclass(frozen=True)
class NotFused:
    """A sum of branches with a common source that stays, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class Fusions:
    blocks: tuple[FusedBlock, ...]
    skipped: tuple[NotFused, ...]


def fuse_reparam(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Fusions]:
    """Fold batch norms and fuse parallel branches; ``model`` is left alone.

    Raises:
        UserError: the model is quantized already, or holds no convolution or matrix product.
        EdgeportError: a fused block differs from the original, which is our bug.
    """
    import onnx_ir as ir

    prepared = prepare(model)
    fusions = fuse_branches(prepared)
    return ir.to_proto(prepared), fusions


def fuse_branches(model: ir.Model) -> Fusions:
    """As `fuse_reparam`, in place, on the canonical form that `calibration.graph.prepare` makes."""
    graph = model.graph
    taken = value_names(graph)
    blocks, skipped = [], []
    # last first: an outer sum is tried before the sums inside it
    for node in reversed(list(graph)):
        if node.op_type not in _ROOTS or node.graph is None:
            continue
        expression = _Expression(node)
        sources = {source for source, _ in expression.terms}
        if len(sources) != 1 or not any(t.convolution for _, t in expression.terms):
            continue
        merged = merge([term for _, term in expression.terms])
        if isinstance(merged, str):
            skipped.append(NotFused(node.name or "", merged))
        else:
            blocks.append(_replace(model, expression, sources.pop(), merged, taken))
    return Fusions(tuple(reversed(blocks)), tuple(reversed(skipped)))


def _replace(
    model: ir.Model, expression: _Expression, source: ir.Value, merged: Branch, taken: set[str]
) -> FusedBlock:
    import onnx_ir as ir

    graph, root = model.graph, expression.root
    parts = [node for node in graph if node in expression.nodes]
    name = _largest_convolution(parts).name or ""
    inputs = [source]
    for array, suffix in ((merged.weight, "weight"), (merged.bias, "bias")):
        key = fresh_name(taken, f"{name}/fused_{suffix}")
        value = ir.val(key, const_value=ir.tensor(array.astype(np.float32), name=key))
        graph.register_initializer(value)
        inputs.append(value)
    node = ir.node("Conv", inputs, merged.geometry.attributes(), name=name)
    graph.insert_before(root, node)
    node.outputs[0].name = output = root.outputs[0].name
    difference = _difference(model, parts, node, merged)
    old = root.outputs[0]
    node.outputs[0].shape, node.outputs[0].type = old.shape, old.type
    old.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    for part in reversed(parts):
        _remove(graph, part)
    node.outputs[0].name = output
    return FusedBlock(name, tuple(part.name or "" for part in parts), difference)


def _difference(model: ir.Model, parts: list[ir.Node], node: ir.Node, merged: Branch) -> float:
    """Run the original nodes and the one convolution on random input.

    Raises:
        EdgeportError: they differ by more than `TOLERANCE`.
    """
    geometry = merged.geometry
    size = [r + 3 * s + 2 for r, s in zip(geometry.reach, geometry.strides, strict=True)]
    x = np.random.default_rng(0).normal(size=(1, merged.channels_in, *size)).astype(np.float32)
    before, after = (_run(model, nodes, x) for nodes in (parts, [node]))
    difference = float(np.abs(before - after).max() / max(np.abs(before).max(), 1e-30))
    if not difference <= TOLERANCE:
        raise EdgeportError(
            f"fusing {node.name!r} changes its output by {difference:.1e} of the largest value",
            fix="Please report this block; until then quantize the model without fusing",
        )
    return difference


def _run(model: ir.Model, nodes: list[ir.Node], x: Array) -> Array:
    """Output of the last of ``nodes``, which read constants and one tensor."""
    import onnx
    import onnx_ir as ir
    import onnxruntime as ort

    values = {v.name or "": v for n in nodes for v in n.inputs if v is not None}
    constants = {k: a for k, v in values.items() if (a := constant(v)) is not None}
    made = {v.name for n in nodes for v in n.outputs}
    (source,) = (name for name in values if name not in constants and name not in made)
    graph = onnx.helper.make_graph(
        [ir.serde.serialize_node(n) for n in nodes],
        "block",
        [onnx.helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, x.shape)],
        [onnx.helper.make_empty_tensor_value_info(nodes[-1].outputs[0].name or "")],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", model.graph.opset_imports.get("", 17))
    proto = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {source: x})[0])


def _remove(graph: ir.Graph, node: ir.Node) -> None:
    """Remove a node and the constants that only it read."""
    constants = [v for v in node.inputs if v is not None and constant(v) is not None]
    graph.remove(node, safe=True)
    for value in constants:
        if not value.uses() and not is_io(value):
            graph.initializers.pop(value.name or "", None)


def _largest_convolution(nodes: list[ir.Node]) -> ir.Node:
    def taps(node: ir.Node) -> int:
        array = constant(node.inputs[1])
        return 0 if array is None else int(np.prod(array.shape[2:]))

    return max((n for n in nodes if n.op_type == "Conv"), key=taps)


class _Expression:
    """What a sum computes, as terms over the tensors where linearity ends.

    Attributes:
        terms: ``(source, term)`` of every summand.
        nodes: all nodes that serve this sum alone, ``root`` among them.
    """

    def __init__(self, root: ir.Node) -> None:
        self.root = root
        self.nodes: set[ir.Node] = set()
        self.terms = self._of_node(root) or []

    def _of_value(self, value: ir.Value | None, reader: ir.Node) -> list[tuple[ir.Value, Term]]:
        assert value is not None  # no linear operator has an optional data input
        node = value.producer()
        found = None
        if node is not None and only_reader(value) is reader:
            found = self._of_node(node)
        return [(value, Term(None))] if found is None else found

    def _of_node(self, node: ir.Node) -> list[tuple[ir.Value, Term]] | None:
        """Terms of a node's output; None where it is not linear in this sense."""
        if node.op_type == "Conv":
            terms = self._convolution(node)
        elif node.op_type in ("Add", "Sub") and not any(map(_is_constant, node.inputs)):
            left, right = (self._of_value(value, node) for value in node.inputs)
            terms = left + after_sum(right, Affine.scale(-1.0 if node.op_type == "Sub" else 1.0))
        else:
            found = affine_of(node)
            if found is None:
                return None
            slot, affine = found
            terms = after_sum(self._of_value(node.inputs[slot], node), affine)
        if terms is not None:
            self.nodes.add(node)
        return terms

    def _convolution(self, node: ir.Node) -> list[tuple[ir.Value, Term]] | None:
        described = weighted(node)
        if isinstance(described, str):
            return None
        geometry = conv_geometry(node, described.weight.shape)
        if isinstance(geometry, str) or (described.bias_slot and described.bias is None):
            return None
        weight = described.weight.astype(np.float64)
        bias = np.zeros(len(weight)) if described.bias is None else described.bias
        return [(described.data, Term(Branch(weight, bias.astype(np.float64), geometry)))]


def _is_constant(value: ir.Value | None) -> bool:
    return constant(value) is not None
