"""What measuring may cost: which tensors are worth it, and on how many samples.

The unit is a multiply-add of a convolution; an element that is rounded, compared and summed counts
as several hundred, since such operators wait for memory. The budget is a share of what observing
the calibration set costs, so that choosing scales never dominates, but never so small that a small
network would not be measured completely. Where it does not reach, those tensors come first whose
proposals differ most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from calibration.graph.queries import (
    WEIGHTED,
    Weighted,
    attribute,
    constant,
    element_count,
    multiply_adds,
    result_of,
)
from calibration.observing.statistics import Statistics

if TYPE_CHECKING:
    import onnx_ir as ir

SHARE = 0.25
"""Of the multiply-adds of the network itself over the whole calibration set."""

SMALL = 4e11
"""Multiply-adds that may be spent in any case: about three seconds on two cores. A network for
small devices is measured completely with it, and needs that: with a third of its tensors measured,
the detector of PP-OCRv4 was hardly better than with squared error alone."""

ELEMENT = 300.0
"""Multiply-adds that take as long as rounding and comparing one element of a tensor."""

MOST_SAMPLES = 64


class Sizes:
    """Elements of tensors in one sample: as inferred, or as seen where shapes are dynamic."""

    def __init__(self, statistics: Statistics) -> None:
        samples = max(len(statistics.sample_names), 1)
        self._seen = {name: t.elements / samples for name, t in statistics.tensors.items()}

    def of(self, value: ir.Value) -> float:
        known = element_count(value)
        return self._seen.get(value.name or "", 0.0) if known is None else float(known)

    def work(self, node: ir.Node) -> float:
        """Multiply-adds of a weighted node."""
        known = multiply_adds(node)
        weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if known or weight is None or node.inputs[0] is None:
            return float(known)
        if node.op_type == "Conv":
            result = self.of(result_of(node)) or self.of(node.inputs[0])
            return result * float(weight[0].size)
        if node.op_type == "ConvTranspose":
            return self.of(node.inputs[0]) * float(weight[0].size)
        columns = weight.shape[0] if attribute(node, "transB", 0) else weight.shape[-1]
        return self.of(node.inputs[0]) * float(columns)

    def cost(self, witness: Weighted | ir.Value) -> float:
        """Of computing what ``witness`` tells about one proposal."""
        if not isinstance(witness, Weighted):
            return ELEMENT * self.of(witness)
        elements = self.of(witness.data) + self.of(result_of(witness.node))
        return self.work(witness.node) + ELEMENT * elements / 2


def affordable(
    graph: ir.Graph, sizes: Sizes, costs: Sequence[float], urgency: Sequence[float], samples: int
) -> tuple[list[int], int]:
    """Which of several measurements to make, and on how many of ``samples``.

    Args:
        costs: multiply-adds a sample.
        urgency: the higher, the earlier.

    Returns:
        Indices in ascending order, all of them if the budget reaches, and 1 to 64 samples.
    """
    itself = sum(sizes.work(node) for node in graph if node.op_type in WEIGHTED)
    budget = max(SHARE * itself * samples, SMALL)
    everything = itself + sum(costs)
    count = max(1, min(int(budget / max(everything, 1.0)), samples, MOST_SAMPLES))
    left = budget / count - itself
    taken = []
    for index in sorted(range(len(costs)), key=lambda i: (-urgency[i], i)):
        if costs[index] <= left:
            taken.append(index)
            left -= costs[index]
    return sorted(taken), count


def spread(scales: Mapping[str, float]) -> float:
    """How far proposals differ: the largest step over the smallest."""
    return max(scales.values()) / min(scales.values())
