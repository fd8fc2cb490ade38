"""The predicted front: mixtures of INT8 and float that no other one beats in noise and in cost.

Both predictions are sums over what the policy itself would place, so one mixture takes
milliseconds and thousands can be looked at. Two greedy walks look from both ends:

- from everything INT8: give back the unit that removes most noise for its cost, or two neighbours
  at once, since the tensor between them is rounded until both are float and a border costs more
  than the kernels beside it;
- from everything float: quantize the unit that saves most for its noise, or two neighbours.

Whatever saves time and noise at once is taken first. The front is of all that was looked at, the
steps not taken included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.graph.queries import data_inputs
from calibration.sensitivity.costs import CostModel
from calibration.sensitivity.units import Unit, integer_nodes, unit_of
from calibration.sensitivity.workbench import Workbench

if TYPE_CHECKING:
    import onnx_ir as ir

Floats = frozenset[str]
"""Names of the units that stay float."""

_TINY = 1e-12


@dataclass(frozen=True)
class Point:
    """One mixture, as predicted.

    Attributes:
        noise: share of the outputs' power; see `calibration.sensitivity.noise`.
        cost: in the cost model's unit.
        live: units that are INT8; others may fall with those in ``floats``.
        quantized: how many weighted nodes are INT8.
    """

    floats: Floats
    noise: float
    cost: float
    live: Floats
    quantized: int


class Predictor:
    """Noise and cost of any mixture.

    Args:
        noise: of every atom of ``bench``, by name.
    """

    def __init__(self, bench: Workbench, noise: Mapping[str, float], costs: CostModel) -> None:
        self.costs = costs
        self.units = {unit.name: unit for unit in bench.units}
        self._bench = bench
        self._by_node = unit_of(bench.units)
        self._weights = {a.node: noise[a.name] for a in bench.atoms if a.node}
        self._tensors = {
            tensor: (a.name, noise[a.name]) for a in bench.atoms for tensor in a.tensors
        }
        self._points: dict[Floats, Point] = {}
        self.neighbours = _neighbours(bench.model.graph, self._by_node)

    def point(self, floats: Iterable[str]) -> Point:
        key = frozenset(floats)
        if key not in self._points:
            self._points[key] = self._predict(key)
        return self._points[key]

    @property
    def seen(self) -> list[Point]:
        return list(self._points.values())

    def around(self, unit: str) -> set[str]:
        """The unit, its neighbours and theirs: whose moves a step at ``unit`` may change."""
        near = self.neighbours[unit] | {unit}
        return near.union(*(self.neighbours[name] for name in near))

    def _predict(self, floats: Floats) -> Point:
        placement = self._bench.place(self.units[name] for name in sorted(floats))
        tensors = dict(
            self._tensors[value.name or ""]
            for value in placement.tensors
            if value.name in self._tensors
        )
        weights = (self._weights.get(item.node.name or "", 0.0) for item in placement.weighted)
        noise = sum(tensors.values()) + sum(weights)
        cost = self.costs.of(self._bench.model.graph, placement, self._by_node)
        inside = integer_nodes(self._bench.model.graph, placement)
        live = {self._by_node[n.name or ""].name for n in inside if n.name in self._by_node}
        return Point(floats, noise, cost, frozenset(live), len(placement.weighted))


def predicted_front(
    predictor: Predictor, progress: Callable[[int, int], None] | None = None
) -> list[Point]:
    """Points from the cheapest to the most exact; each is better in one and worse in the other."""
    every = frozenset(predictor.units)
    told = progress or (lambda *_: None)
    total = 2 * len(every)
    _walk(predictor, frozenset(), every, _give_back, lambda n: told(n, total))
    _walk(predictor, every, frozenset(), _quantize, lambda n: told(len(every) + n, total))
    return pareto(point for point in predictor.seen if point.quantized)


def pareto(points: Iterable[Point]) -> list[Point]:
    """Those that no other one beats, from the cheapest on."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, p.noise, len(p.floats))):
        if not found or point.noise < found[-1].noise - _TINY:
            found.append(point)
    return found


def _give_back(before: Point, after: Point) -> float:
    """Noise removed for the cost; infinite where it is free, so that the largest gain decides."""
    gain, price = before.noise - after.noise, after.cost - before.cost
    if gain <= 0 and price >= 0:
        return -1.0
    return (1e9 + gain - price) if price <= 0 and gain >= 0 else gain / max(price, _TINY)


def _quantize(before: Point, after: Point) -> float:
    """Cost saved for the noise added."""
    gain, price = before.cost - after.cost, after.noise - before.noise
    if gain <= 0:
        return -1.0
    return (1e9 + gain) if price <= 0 else gain / max(price, _TINY)


def _walk(
    predictor: Predictor,
    start: Floats,
    end: Floats,
    worth: Callable[[Point, Point], float],
    told: Callable[[int], None],
) -> None:
    """Greedy from ``start`` to ``end``, one unit or two neighbours a step."""
    here = predictor.point(start)
    values: dict[Floats, float] = {}
    fresh = set(predictor.units)
    while here.floats != end:
        open_units = here.floats ^ end
        _rate(predictor, here, open_units, fresh, values, worth)
        best = max(values, key=lambda move: (values[move], sorted(move)), default=None)
        if best is None or values[best] <= 0:
            break
        here = predictor.point(here.floats ^ best)
        fresh = {near for unit in best for near in predictor.around(unit)}
        values = {
            move: value for move, value in values.items() if not (move & best or move & fresh)
        }
        told(len(here.floats ^ start))


def _rate(
    predictor: Predictor,
    here: Point,
    open_units: Floats,
    fresh: set[str],
    values: dict[Floats, float],
    worth: Callable[[Point, Point], float],
) -> None:
    """Value every move around ``fresh`` again; what is far from the last step has not changed."""
    for unit in fresh & open_units:
        moves = {frozenset((unit,))}
        moves |= {frozenset((unit, near)) for near in predictor.neighbours[unit] & open_units}
        for move in moves:
            values[move] = worth(here, predictor.point(here.floats ^ move))


def _neighbours(graph: ir.Graph, units: Mapping[str, Unit]) -> dict[str, set[str]]:
    """Units between whose nodes a tensor passes."""
    found: dict[str, set[str]] = {unit.name: set() for unit in units.values()}
    for node in graph:
        reader = units.get(node.name or "")
        for _, value in data_inputs(node):
            maker = value.producer()
            unit = None if maker is None else units.get(maker.name or "")
            if reader is not None and unit is not None and unit != reader:
                found[reader.name].add(unit.name)
                found[unit.name].add(reader.name)
    return found
