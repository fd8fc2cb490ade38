"""Which channels of which tensors may be rescaled together, so that the network stays the same.

A positive factor on a channel passes through ReLU, pooling, resizing, zero padding and addition,
and two convolutions around it take it up: the one before in its output channels, the one after in
its input channels. So the channels of a tensor are *segments* of *variables*, one variable for
every set of tensors that such operators tie to each other (a residual stream is one variable, a
Concat is several segments). What touches anything else, the graph's inputs and outputs included, is
*fixed*: its factor is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import Weighted, attribute, constant, data_inputs, weighted

if TYPE_CHECKING:
    import onnx_ir as ir

HOMOGENEOUS = frozenset(
    {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "Pad"}
    | {"Relu", "Resize", "Slice"}
)
"""Operators with f(s x) = s f(x) for every s > 0 that is constant over a channel."""

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(eq=False)
class Variable:
    """A vector of factors, ``[size]``.

    Attributes:
        fixed: whether the factors have to be 1.
    """

    size: int
    fixed: bool = False
    _parent: Variable | None = None

    @property
    def root(self) -> Variable:
        return self if self._parent is None else self._parent.root

    def join(self, other: Variable) -> None:
        a, b = self.root, other.root
        if a is not b:
            b._parent = a
            a.fixed = a.fixed or b.fixed


@dataclass
class Channels:
    """The segments of every tensor that has channels, and the nodes that take factors up.

    Attributes:
        of: tensor to variables in channel order (axis 1); tensors that are absent are fixed.
        convolutions: plain convolutions, whose weights take up the factors of both sides.
    """

    of: dict[ir.Value, tuple[Variable, ...]] = field(default_factory=dict)
    convolutions: list[Weighted] = field(default_factory=list)

    def free(self) -> Mapping[Variable, list[ir.Value]]:
        """Variables that may be chosen, with the tensors that they are part of."""
        found: dict[Variable, list[ir.Value]] = {}
        for value, segments in self.of.items():
            for variable in dict.fromkeys(segment.root for segment in segments):
                if not variable.fixed:
                    found.setdefault(variable, []).append(value)
        return found


def find_channels(graph: ir.Graph) -> Channels:
    """Trace factors through ``graph``, in one pass in topological order."""
    found = Channels()
    shared = _shared_weights(graph)
    for node in graph:
        described = weighted(node) if node.op_type in _CONVOLUTIONS else None
        if isinstance(described, Weighted) and _is_plain(described, shared):
            found.convolutions.append(described)
            axis = 0 if is_depthwise(described) else described.channel_axis or 0
            found.of[node.outputs[0]] = (Variable(described.weight.shape[axis]),)
        elif _passes(node, found):
            source = node.inputs[0]
            assert source is not None  # it has channels
            found.of[node.outputs[0]] = found.of[source]
        elif not (_ties(node, found) or _joins(node, found)):
            _fix(found, node)
    for value in found.of:
        if value.is_graph_output() or any(use.node.graph is not graph for use in value.uses()):
            _fix_value(found, value)  # a body that captures it would notice
    return found


def _shared_weights(graph: ir.Graph) -> set[ir.Value]:
    return {value for value in graph.initializers.values() if len(list(value.uses())) > 1}


def _is_plain(item: Weighted, shared: set[ir.Value]) -> bool:
    """Every output channel reads all input channels or one, with parameters of its own."""
    parameters = [value for value in item.node.inputs[1:] if value is not None]
    own = not any(value in shared or value.is_graph_output() for value in parameters)
    plain_bias = item.bias_slot is None or item.bias is not None
    whole = attribute(item.node, "group", 1) == 1
    return own and plain_bias and (whole or is_depthwise(item))


def is_depthwise(item: Weighted) -> bool:
    """Whether output channel c reads input channel c alone."""
    shape, group = item.weight.shape, attribute(item.node, "group", 1)
    return bool(item.node.op_type == "Conv" and group == shape[0] > 1 and shape[1] == 1)


def _passes(node: ir.Node, found: Channels) -> bool:
    """Whether the output's channels are the first input's, and take the same factors."""
    if not node.inputs or node.inputs[0] not in found.of:
        return False
    return (node.op_type in HOMOGENEOUS and _keeps_channels(node)) or _is_masked(node, found)


def _keeps_channels(node: ir.Node) -> bool:
    """Whether only positions are mixed, moved or dropped."""
    if len(node.outputs) != 1:
        return False
    if node.op_type not in ("Pad", "Resize", "Slice"):
        return True
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    if len(before.shape) != len(after.shape) or before.shape[:2] != after.shape[:2]:
        return False
    if node.op_type == "Resize":
        mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
        return bool(mode != "tf_crop_and_resize")
    if node.op_type == "Slice":
        axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
        return axes is not None and not {0, 1}.intersection(axes % len(before.shape))
    filled = constant(node.inputs[2]) if len(node.inputs) > 2 else np.float32(0)
    return bool(attribute(node, "mode", "constant") == "constant" and not np.any(filled))


def _is_masked(node: ir.Node, found: Channels) -> bool:
    """A product with something that is the same for all channels, and no factor's business."""
    if node.op_type != "Mul" or node.inputs[0] is None or node.inputs[1] is None:
        return False
    whole, mask = node.inputs[0].shape, node.inputs[1].shape
    if whole is None or mask is None or len(whole) != len(mask) or node.inputs[1] in found.of:
        return False
    return len(mask) > 1 and mask[1] == 1


def _ties(node: ir.Node, found: Channels) -> bool:
    """Addition of equally shaped tensors: their factors are the same."""
    sides = [found.of.get(value) for _, value in data_inputs(node)]
    if node.op_type != "Add" or len(sides) != 2 or sides[0] is None or sides[1] is None:
        return False
    left, right = (value for _, value in data_inputs(node))
    if left.shape is None or left.shape != right.shape:
        return False
    if [v.size for v in sides[0]] != [v.size for v in sides[1]]:
        return False
    for a, b in zip(sides[0], sides[1], strict=True):
        a.join(b)
    found.of[node.outputs[0]] = sides[0]
    return True


def _joins(node: ir.Node, found: Channels) -> bool:
    """Concatenation of channels: one segment after the other."""
    values = [value for value in node.inputs if value is not None]
    if node.op_type != "Concat" or attribute(node, "axis", 0) != 1:
        return False
    if any(constant(value) is not None for value in values):
        return False
    segments: list[Variable] = []
    for value in values:
        known = found.of.get(value)
        if known is None:
            if value.shape is None or not isinstance(value.shape[1], int):
                return False
            known = (Variable(value.shape[1], fixed=True),)
        segments += known
    found.of[node.outputs[0]] = tuple(segments)
    return True


def _fix(found: Channels, node: ir.Node) -> None:
    """``node`` would notice a factor. What it makes has factors of its own: none."""
    for value in node.inputs:
        if value is not None:
            _fix_value(found, value)


def _fix_value(found: Channels, value: ir.Value) -> None:
    for variable in found.of.get(value, ()):
        variable.root.fixed = True


def slices(segments: tuple[Variable, ...]) -> list[slice]:
    """Channels of each segment."""
    ends = [0]
    for segment in segments:
        ends.append(ends[-1] + segment.size)
    return [slice(start, end) for start, end in pairwise(ends)]
