"""Units: the nodes that one integer kernel computes, which are quantized or float together.

Two nodes belong to one unit where no Q/DQ pair stands between them: a convolution and its ReLU, and
under the ``tensorrt`` policy the residual Add that it is fused into. A node that only moves values,
or only reads their integers in another way, goes with whoever made them, and the branches of a
convolution that CFWS split stay together with their sum. So every unit can be given back to float
without tearing a kernel apart, and its name is one that ``--keep-float`` takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.cfws.plan import COARSE, FINE, SUM, is_split_sum
from calibration.graph.queries import (
    EPILOGUES,
    constant,
    data_inputs,
    epilogue_of,
    is_moving,
    maker_of,
)
from calibration.qdq.placement import Placement
from calibration.qdq.policies.common import FREE

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Unit:
    """Nodes that are quantized together.

    Attributes:
        name: of its first weighted node, or of its first node; of a split one, the name that the
            convolution had.
        op_type: of the node that it is named after.
        nodes: names of all its nodes, in graph order.
        anchors: names that keep all of it in float when they are kept; the rest follows.
    """

    name: str
    op_type: str
    nodes: tuple[str, ...]
    anchors: tuple[str, ...]

    @property
    def source_nodes(self) -> tuple[str, ...]:
        """The anchors as the model file has them: before a convolution was split."""
        return self.anchors if self.name in self.nodes else (self.name,)


def find_units(graph: ir.Graph, placement: Placement) -> list[Unit]:
    """Units of what ``placement`` quantizes, in graph order."""
    integer = integer_nodes(graph, placement)
    parents = {node: node for node in integer}

    def root(node: ir.Node) -> ir.Node:
        while parents[node] is not node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for node in integer:
        for slot, value in data_inputs(node):
            maker = value.producer()
            if maker in parents and _one_kernel(node, slot, placement):
                parents[root(node)] = root(maker)
    named = {node.name or "": node for node in integer}
    for fine, coarse in _branches(graph):
        if fine in named and coarse in named:
            parents[root(named[fine])] = root(named[coarse])
    groups: dict[ir.Node, list[ir.Node]] = {}
    for node in integer:
        groups.setdefault(root(node), []).append(node)
    weighing = {item.node for item in placement.weighted}
    computing = [nodes for nodes in groups.values() if not all(map(is_moving, nodes))]
    return [_unit(nodes, weighing) for nodes in computing]


def integer_nodes(graph: ir.Graph, placement: Placement) -> list[ir.Node]:
    """Nodes that compute on integers under ``placement``, fused activations included."""
    left = {item.node for item in placement.left}
    found: dict[ir.Node, None] = {}
    for node in graph:
        folded = all(value is None or constant(value) is not None for value in node.inputs)
        if node.name in left or node.op_type in FREE or folded:
            continue
        if node.op_type in EPILOGUES and not _fused(node, found):
            continue
        found[node] = None
    return list(found)


def unit_of(units: Iterable[Unit]) -> dict[str, Unit]:
    """The unit by the name of each of its nodes."""
    return {name: unit for unit in units for name in unit.nodes}


def _fused(node: ir.Node, integer: Iterable[ir.Node]) -> bool:
    """Whether an activation is the epilogue of an integer node."""
    value = node.inputs[0]
    maker = None if value is None else maker_of(node.outputs[0])
    return maker is not None and maker in integer and epilogue_of(maker) is node


def _branches(graph: ir.Graph) -> list[tuple[str, str]]:
    """Both convolutions of every split, whether or not their sum is quantized."""
    stems = [(n.name or "").removesuffix(SUM) for n in graph if is_split_sum(n)]
    return [(stem + FINE, stem + COARSE) for stem in stems]


def _one_kernel(node: ir.Node, slot: int, placement: Placement) -> bool:
    reread = bool(node.outputs) and node.outputs[0] in placement.rereadings
    return is_moving(node) or is_split_sum(node) or reread or not placement.reads(node, slot)


def _unit(nodes: list[ir.Node], weighing: set[ir.Node]) -> Unit:
    heavy = [node for node in nodes if node in weighing]
    first = (heavy or nodes)[0]
    sums = [node for node in nodes if is_split_sum(node)]
    name = first.name or ""
    whole = [name.removesuffix(part) for part in (COARSE, FINE) if name.endswith(part)]
    if whole and {whole[0] + COARSE, whole[0] + FINE} <= {node.name for node in nodes}:
        name = whole[0]
    computing = [n for n in nodes if not is_moving(n) and n.op_type not in EPILOGUES]
    anchors = [*heavy, *sums] or computing or nodes
    return Unit(
        name,
        first.op_type,
        tuple(node.name or "" for node in nodes),
        tuple(node.name or "" for node in anchors),
    )
