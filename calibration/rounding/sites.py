"""Where a layer's output can be shifted by a constant a channel, and who carries the constant.

A convolution and a Gemm have a bias or can get one. A MatMul has none; where a constant is added to
its result, that constant takes the shift. The two halves of a split convolution are one site: what
counts is their sum, and the fine half, which has no bias yet, takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.cfws.plan import COARSE, FINE, is_split_sum
from calibration.graph.queries import Weighted, attribute, constant, only_reader
from calibration.qdq.placement import LeftFloat, Placement
from calibration.rounding.activation import Activation, activation_behind

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Site:
    """One layer.

    Attributes:
        name: of the layer, as a report calls it.
        output: what is shifted, before the activation.
        activation: what follows it element by element; its result is what counts.
        carrier: node whose constant takes the shift, in ``slot``.
        channels: how many numbers the shift has.
        channel_axis: of the output: 1, or -1 for a matrix product.
        rank: of a convolution's output; 0 for a matrix product, whose rank may be unknown.
    """

    name: str
    output: ir.Value
    activation: Activation
    carrier: ir.Node
    slot: int
    channels: int
    channel_axis: int
    rank: int

    @property
    def constant(self) -> NDArray[np.float32] | None:
        """What the carrier adds already; None if nothing."""
        slots = self.carrier.inputs
        value = slots[self.slot] if len(slots) > self.slot else None
        array = constant(value)
        return None if array is None else np.asarray(array, np.float32)

    @property
    def shift_gain(self) -> float:
        """How much of the constant arrives at the output: Gemm's ``beta``."""
        if self.carrier.op_type != "Gemm":
            return 1.0
        return float(attribute(self.carrier, "beta", 1.0))


def find_sites(placement: Placement) -> tuple[list[Site], list[LeftFloat]]:
    """Layers that can be shifted, in order of the graph, and those that cannot, with reasons."""
    sites: list[Site] = []
    left: list[LeftFloat] = []
    quantized = {item.node for item in placement.weighted}
    for item in placement.weighted:
        found = _site(item, quantized)
        if isinstance(found, Site):
            sites.append(found)
        elif found:
            left.append(LeftFloat(item.node.name or "", item.node.op_type, found))
    return sites, left


def _site(item: Weighted, quantized: set[ir.Node]) -> Site | str:
    """The site of a node; a reason why it has none; "" for the half that does not speak."""
    node, output = item.node, item.node.outputs[0]
    total = only_reader(output)
    if total is not None and is_split_sum(total):
        halves = [v.producer() for v in total.inputs if v is not None]
        if (node.name or "").endswith(COARSE) and halves[1] in quantized:
            return ""
        if (node.name or "").endswith(FINE):
            output = total.outputs[0]
    name = (output.producer() or node).name or ""
    channels = item.weight.shape[-1 if item.channel_axis is None else item.channel_axis]
    if node.op_type == "ConvTranspose":
        channels *= int(attribute(node, "group", 1))
    if node.op_type == "MatMul":
        return _matmul_site(node, name, channels)
    if len(node.inputs) > 2 and node.inputs[2] is not None and item.bias is None:
        return "its bias is computed"
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) == 0.0:
        return "Gemm with beta 0 adds nothing"
    axis = -1 if node.op_type == "Gemm" else 1
    rank = 0 if axis == -1 else item.weight.ndim
    return Site(name, output, activation_behind(output), node, 2, channels, axis, rank)


def _matmul_site(node: ir.Node, name: str, channels: int) -> Site | str:
    output = node.outputs[0]
    add = only_reader(output)
    if add is None or add.op_type != "Add":
        return "a MatMul has no bias, and no constant is added to its result"
    slot = 1 if add.inputs[0] is output else 0
    added = constant(add.inputs[slot])
    if added is None or added.shape not in ((), (1,), (channels,)):
        return "a MatMul has no bias, and what is added to its result is not one number a channel"
    output = add.outputs[0]
    return Site(name, output, activation_behind(output), add, slot, channels, -1, 0)
