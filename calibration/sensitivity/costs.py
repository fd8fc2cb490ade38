"""What a mixture of INT8 and float costs, predicted for thousands of mixtures.

A unit costs what its integer kernels cost or what its float kernels cost, and every tensor that
crosses a border between the two is converted:

    cost = sum over INT8 units of i(u) + sum over float units of f(u)
         + q * elements into INT8 + d * elements out of it

so that two neighbours given back together may cost less than one of them. Where deploy hands in a
profile, i and f are times of kernels, measured on the model with nothing and with everything
quantized, and q and d are `REARRANGED` times what the conversions took there. Without one, i and f
are shares of the measured total, or of nothing but the work, by multiply-adds. Predictions choose
what is worth measuring; what is reported was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from calibration.graph.queries import is_weighted_type, multiply_adds
from calibration.qdq.placement import Placement
from calibration.sensitivity.units import Unit, integer_nodes, unit_of

if TYPE_CHECKING:
    import onnx_ir as ir

FLOAT_WORK = 4.0
"""What a multiply-add in float costs against one in INT8 where nothing can be measured."""

REARRANGED = 2.0
"""What a border costs, in conversions.

ONNX Runtime's float convolutions keep tensors in blocks of channels (NCHWc), its integer ones do
not, so a tensor that crosses is also rearranged, and moved once more. Files that are all float or
all integer have no such border, so no profile of them shows it.
"""

_QUANTIZED, _DEQUANTIZED = "/quantized", "/dequantized"  # of calibration.qdq.insertion


class KernelTime(NamedTuple):
    """One kernel of a profile; ``tensor`` is what it makes, by its name in the file."""

    op_type: str
    tensor: str
    ms: float


Profile = Callable[[Path], Iterable[KernelTime]]
Cost = Callable[[Path], float]


@dataclass(frozen=True)
class CostModel:
    """Predicted cost of a placement.

    Attributes:
        integer, floating: of every unit, by its name.
        into, out_of: of one element that becomes integer, or float again.
        rest: of everything that is float in any case.
        sizes: elements of tensors, by name.
        unit: ``ms``, or ``of FP32`` where only work is counted.
    """

    integer: Mapping[str, float]
    floating: Mapping[str, float]
    into: float
    out_of: float
    rest: float
    sizes: Mapping[str, int]
    unit: str = "ms"

    def of(self, graph: ir.Graph, placement: Placement, units: Mapping[str, Unit]) -> float:
        """Cost of ``graph`` when quantized as ``placement`` says.

        Args:
            units: by the name of each of their nodes.
        """
        inside = set(integer_nodes(graph, placement))
        live = {units[n.name or ""].name for n in inside if n.name in units}
        total = self.rest
        for name, cost in self.integer.items():
            total += cost if name in live else self.floating[name]
        for value, tensor in placement.tensors.items():
            size = self.sizes.get(value.name or "", 0)
            if value.producer() not in inside:
                total += self.into * size
            readers = {use.node for use in value.uses()} if tensor.whole else set()
            if value.is_graph_output() or readers - inside:
                total += self.out_of * size
        return total


def from_profiles(
    graph: ir.Graph,
    units: list[Unit],
    sizes: Mapping[str, int],
    floating: Iterable[KernelTime],
    integer: Iterable[KernelTime],
) -> CostModel:
    """From kernel times of the float model and of the one with everything quantized."""
    by_node = unit_of(units)
    maker = {v.name or "": node.name or "" for node in graph for v in node.outputs}
    rates = {"QuantizeLinear": _Rate(), "DequantizeLinear": _Rate()}
    spent = [dict.fromkeys((u.name for u in units), 0.0) for _ in range(2)]
    rest = [0.0, 0.0]
    for kind, times in enumerate((floating, integer)):
        for kernel in times:
            tensor = kernel.tensor.removesuffix(_DEQUANTIZED).removesuffix(_QUANTIZED)
            unit = by_node.get(maker.get(tensor, ""))
            if kernel.op_type in rates:
                rates[kernel.op_type].add(kernel.ms, sizes.get(tensor, 0))
            elif unit is not None:
                spent[kind][unit.name] += kernel.ms
            else:
                rest[kind] += kernel.ms
    into, out_of = (REARRANGED * rate.value for rate in rates.values())
    both = sum(rest) / 2  # the same kernels twice
    return CostModel(spent[1], spent[0], into or out_of, out_of or into, both, sizes)


def from_work(
    graph: ir.Graph,
    units: list[Unit],
    float_cost: float | None = None,
    integer_cost: float | None = None,
) -> CostModel:
    """By multiply-adds, scaled to measured totals where there are any."""
    heavy = {n.name: float(multiply_adds(n)) for n in graph if is_weighted_type(n)}
    work = {unit.name: sum(heavy.get(name, 0.0) for name in unit.nodes) for unit in units}
    if not any(work.values()):  # free shapes: every unit counts alike
        work = dict.fromkeys(work, 1.0)
    total = sum(work.values())
    unit = "ms"
    if float_cost is None or integer_cost is None:
        float_cost, integer_cost, unit = 1.0, 1 / FLOAT_WORK, "of FP32"
    # an INT8 model that is not faster leaves nothing to weigh: then the work alone decides
    share = integer_cost / float_cost if integer_cost < float_cost else 1 / FLOAT_WORK
    floating = {name: float_cost * macs / total for name, macs in work.items()}
    integer = {name: cost * share for name, cost in floating.items()}
    return CostModel(integer, floating, 0.0, 0.0, 0.0, {}, unit)


@dataclass
class _Rate:
    ms: float = 0.0
    elements: int = 0

    def add(self, ms: float, elements: int) -> None:
        if elements:
            self.ms += ms
            self.elements += elements

    @property
    def value(self) -> float:
        return self.ms / self.elements if self.elements else 0.0
