"""The graph surgery of CFWS: what replaces a split convolution, node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.cfws.arithmetic import Floats, range_ratio
from calibration.cfws.plan import COARSE, CROP, FINE, SUM, Candidate, LayerGain
from calibration.graph.conv import Axes
from calibration.graph.queries import fresh_name

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class SplitConv:
    """One split convolution.

    Attributes:
        node: name of the node it was.
        coarse_node, fine_node, sum_node: names of what it became; their outputs are named alike,
            but for the sum's, which is the original ``output``.
        coarse_weight, fine_weight: initializer names; quantize them with the two scales below.
        coarse_scale, fine_scale: float32, rank 0 per tensor or ``[out]`` per channel.
        crop: (tensor read, tensor cropped) where the 1x1 reads a crop of the input, else None.
            Both need the same activation scale.
        bits: of both integer parts.
        range_ratio: how much finer the fine step is than a plain one; a hint only.
        gain: measured on the layer's output; None if it was not asked for.
    """

    node: str
    coarse_node: str
    fine_node: str
    sum_node: str
    coarse_weight: str
    fine_weight: str
    coarse_scale: Floats
    fine_scale: Floats
    output: str
    crop: tuple[str, str] | None
    bits: int
    range_ratio: float
    gain: LayerGain | None = None


class Branches:
    """Builds the two convolutions of a split.

    Args:
        place: puts a new node into the graph.
        taken: names in use; new tensors get free ones and are added.
    """

    def __init__(self, graph: ir.Graph, place: Callable[[ir.Node], None], taken: set[str]) -> None:
        self._graph = graph
        self._place = place
        self._taken = taken

    def coarse(self, candidate: Candidate, source: ir.Value) -> ir.Value:
        """Output of the coarse convolution, the one with the bias."""
        geometry = candidate.geometry
        if candidate.extracted:
            geometry, begin, end = geometry.centre_tap()
            if candidate.crops:
                source = self._crop(source, begin, end, candidate.name + CROP)
        bias = [v for v in candidate.node.inputs[2:3] if v is not None]
        weight = self._constant(candidate.split.coarse, _weight_name(candidate) + COARSE)
        inputs = [source, weight, *bias]
        return self._node("Conv", inputs, candidate.name + COARSE, geometry.attributes())

    def fine(self, candidate: Candidate, source: ir.Value, weight: Floats) -> ir.Value:
        """Output of the fine convolution with ``weight``: the remainder, quantized or not."""
        inputs = [source, self._constant(weight, _weight_name(candidate) + FINE)]
        attributes = candidate.geometry.attributes()
        return self._node("Conv", inputs, candidate.name + FINE, attributes)

    def _node(
        self, op_type: str, inputs: list[ir.Value], name: str, attributes: Any = None
    ) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes, name=name)
        node.outputs[0].name = fresh_name(self._taken, name)
        self._place(node)
        output: ir.Value = node.outputs[0]
        return output

    def _constant(self, array: np.ndarray[Any, Any], name: str) -> ir.Value:
        import onnx_ir as ir

        name = fresh_name(self._taken, name)
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.val(name, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _crop(self, source: ir.Value, begin: Axes, end: Axes, name: str) -> ir.Value:
        axes = [axis for axis, sizes in enumerate(zip(begin, end, strict=True)) if any(sizes)]
        everything = np.iinfo(np.int64).max
        starts = [begin[axis] for axis in axes]
        ends = [-end[axis] if end[axis] else everything for axis in axes]
        bounds = {"starts": starts, "ends": ends, "axes": [axis + 2 for axis in axes]}
        inputs = [self._constant(np.array(v, np.int64), f"{name}/{k}") for k, v in bounds.items()]
        return self._node("Slice", [source, *inputs], name)


def rewrite(
    graph: ir.Graph, candidate: Candidate, gain: LayerGain | None, taken: set[str]
) -> SplitConv:
    """Replace the candidate's node by its two branches and their sum, in place."""
    import onnx_ir as ir

    node, split = candidate.node, candidate.split
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None  # a convolution reads something
    branches = Branches(graph, lambda new: graph.insert_before(node, new), taken)
    coarse = branches.coarse(candidate, source)
    fine = branches.fine(candidate, source, split.fine)
    for branch in (coarse, fine):
        branch.shape, branch.type = output.shape, output.type
    total = ir.node("Add", [coarse, fine], name=candidate.name + SUM)
    graph.insert_before(node, total)
    name = output.name
    output.replace_all_uses_with(total.outputs[0], replace_graph_outputs=True)
    total.outputs[0].shape, total.outputs[0].type = output.shape, output.type
    graph.remove(node, safe=True)
    total.outputs[0].name = name
    crop_node = _input(coarse).producer() if candidate.crops else None
    return SplitConv(
        node=candidate.name,
        coarse_node=candidate.name + COARSE,
        fine_node=candidate.name + FINE,
        sum_node=candidate.name + SUM,
        coarse_weight=_weight(coarse),
        fine_weight=_weight(fine),
        coarse_scale=split.coarse_scale,
        fine_scale=split.fine_scale,
        output=name or "",
        crop=(source.name or "", crop_node.outputs[0].name or "") if crop_node else None,
        bits=split.bits,
        range_ratio=range_ratio(candidate.weight, split.bits),
        gain=gain,
    )


def _input(output: ir.Value, slot: int = 0) -> ir.Value:
    producer = output.producer()
    value = producer.inputs[slot] if producer is not None else None
    assert value is not None  # made by Branches
    return value


def _weight(output: ir.Value) -> str:
    return _input(output, 1).name or ""


def _weight_name(candidate: Candidate) -> str:
    weight = candidate.node.inputs[1]
    return (weight.name if weight is not None else None) or candidate.name
