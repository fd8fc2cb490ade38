"""``--rounding adaround`` at work: layer after layer, with what the layers before hand on.

Every layer learns to make up for what rounding has done before it, so it has to see the layers
before it as they will be: all at once, each layer would make up for errors that the others have
just removed (on a network of eight layers 10 dB at the output, where nearest rounding has 23 and
one layer after the other 37). So layers of one depth, which cannot see each other, are one pass
over a few samples, through as much of both networks as they need.

A layer's rows come from a few random positions of its output in every sample, and those of some
samples are held back to judge by: memory depends neither on the number of samples nor, beyond what
one sample takes, on the size of the activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.cfws.plan import COARSE, FINE, is_split_sum
from calibration.graph.queries import (
    Weighted,
    constant,
    depths,
    element_count,
    epilogue_of,
    only_reader,
)
from calibration.observing.probe import Probe
from calibration.qdq.placement import LeftFloat, Placement
from calibration.qdq.weights import IntegerWeights, Rounded, integer_weights
from calibration.rounding.adaround import LearningPlan, Rows, learn_rounding
from calibration.rounding.patches import Product, product_of
from calibration.rounding.shares import Subset, decibels, learn_and_judge
from calibration.rounding.twin import WeightGrids, join, quantized_copy
from calibration.scales.methods import Scale
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

ROWS = 2048
"""Positions of a layer's output that are learned from, and a quarter of that to judge by."""

SAMPLES = 32
"""At most so many are run for every layer."""

MEMORY_BYTES = 1 << 29
"""Of rows and tapped activations of one run; a layer that needs more is a run by itself."""


@dataclass(frozen=True)
class RoundedLayer:
    """What learning did to one layer, on positions that it did not see.

    Attributes:
        sqnr_before_db, sqnr_after_db: of the layer's output with nearest and learned rounding.
        moved: weights that are no longer at their nearest integer.
    """

    node: str
    sqnr_before_db: float
    sqnr_after_db: float
    moved: int
    kept: bool


@dataclass(frozen=True)
class Learning:
    """Integers by weight name, every layer that was learned, and why others were not."""

    rounded: Mapping[str, Rounded]
    layers: tuple[RoundedLayer, ...] = ()
    left: tuple[LeftFloat, ...] = ()


@dataclass(frozen=True)
class _Layer:
    """One layer to learn: its numbers on the nearest grid, and where its output is compared.

    Attributes:
        output: before the activation: of the node, or of the sum where it is half of a split.
    """

    item: Weighted
    product: Product
    numbers: IntegerWeights
    output: ir.Value

    @property
    def name(self) -> str:
        return self.item.node.name or ""

    @property
    def steps(self) -> NDArray[np.float32]:
        """Of every weight, in its shape."""
        steps = np.broadcast_to(self.numbers.steps, self.numbers.weight.shape)
        return np.asarray(steps.reshape(self.item.weight.shape), np.float32)

    @property
    def real(self) -> NDArray[np.float32]:
        """The weights on the nearest grid points, in their shape."""
        return self.numbers.real.reshape(self.item.weight.shape)

    @property
    def result(self) -> ir.Value:
        """The output behind the activation that runtimes fuse."""
        producer = self.output.producer()
        epilogue = None if producer is None else epilogue_of(producer)
        return self.output if epilogue is None else epilogue.outputs[0]

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the fused activation: Relu or Clip."""
        epilogue = self.result.producer() if self.result is not self.output else None
        if epilogue is None:
            return -np.inf, np.inf
        if epilogue.op_type == "Relu":
            return 0.0, np.inf
        limits = [constant(v) for v in epilogue.inputs[1:3]] + [None, None]
        low, high = (None if a is None else float(a) for a in limits[:2])
        return -np.inf if low is None else low, np.inf if high is None else high

    @property
    def cost_bytes(self) -> int:
        """Of the rows, and of the activations that one sample hands out."""
        weight = self.item.weight
        rows = weight.size // max(self.product.outputs, 1) * self.product.groups
        tapped = sum(element_count(v) or 0 for v in (self.item.data, self.output, self.output))
        return 4 * (rows * (ROWS + ROWS // 4) + tapped)


def learn_roundings(
    job: Job,
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    grids: WeightGrids,
    *,
    real: ir.Model | None = None,
    plan: LearningPlan | None = None,
    max_samples: int | None = None,
) -> Learning:
    """Learn the integers of every weight of ``placement`` that can be learned.

    Args:
        model: prepared and as ``placement`` describes it; it is not changed.
        real: the float network to come near to, where biases of ``model`` were shifted since.
        max_samples: by default what a probe may cost.

    Raises:
        UserError: there are statistics instead of samples.
    """
    if job.samples is None:
        raise UserError(
            "--rounding adaround runs samples, and there are statistics only",
            fix="Give the samples themselves, or choose --rounding nearest",
        )
    plan = plan or LearningPlan()
    layers, left = _layers(job, placement, scales, grids)
    named = {value.name or "": scale for value, scale in scales.items()}
    shares = learn_and_judge(job.samples, max_samples or min(Probe(model).affordable, SAMPLES))
    rounded: dict[str, Rounded] = dict(grids.rounded)
    done: list[RoundedLayer] = []
    told = _Told(job, len(layers), plan)
    for run in _runs(layers, depths(model.graph)):
        current = replace(grids, rounded=rounded)
        learn, judge = (
            _Positions(
                job, (real or model, model), named, current, run, part, count, plan.seed
            ).rows()
            for part, count in zip(shares, (ROWS, ROWS // 4), strict=True)
        )
        for layer in run:
            entry, found = _learned(layer, learn[layer.name], judge[layer.name], grids, plan, told)
            done.append(entry)
            if entry.kept:
                rounded[layer.item.weight_name] = found
    return Learning(rounded, tuple(done), tuple(left))


def _layers(
    job: Job, placement: Placement, scales: Mapping[ir.Value, Scale], grids: WeightGrids
) -> tuple[list[_Layer], list[LeftFloat]]:
    readers = Counter(item.weight_name for item in placement.weighted)
    layers: list[_Layer] = []
    left: list[LeftFloat] = []
    for item in placement.weighted:
        node = item.node
        product = product_of(item)
        total = only_reader(node.outputs[0])
        split = total if total is not None and is_split_sum(total) else None
        reason = product if isinstance(product, str) else ""
        if readers[item.weight_name] > 1:
            reason = "other nodes read the same weight"
        elif split is not None and (node.name or "").endswith(COARSE):
            reason = "the coarse half of a split is integer by construction"
        if reason or isinstance(product, str):
            left.append(LeftFloat(node.name or "", node.op_type, reason))
            continue
        numbers = integer_weights(
            item,
            scales[item.data].scale if job.policy.integer_bias else None,
            half=job.half,
            form=grids.form,
            fixed_scale=grids.scales.get(item.weight_name),
        )
        fine = split is not None and (node.name or "").endswith(FINE)
        output = split.outputs[0] if split is not None and fine else node.outputs[0]
        layers.append(_Layer(item, product, numbers, output))
    return layers, left


def _runs(layers: list[_Layer], depth: Mapping[ir.Node, int]) -> list[list[_Layer]]:
    """Layers of one depth, as many as fit into `MEMORY_BYTES`; the shallow ones first."""
    runs: list[list[_Layer]] = []
    room = 0
    for layer in sorted(layers, key=lambda layer: depth[layer.item.node]):
        deeper = runs and depth[layer.item.node] > depth[runs[-1][0].item.node]
        if not runs or deeper or layer.cost_bytes > room:
            runs.append([])
            room = MEMORY_BYTES
        runs[-1].append(layer)
        room -= layer.cost_bytes
    return runs


class _Positions:
    """Rows of some layers at random positions of their outputs, from one pass over ``part``."""

    def __init__(
        self,
        job: Job,
        models: tuple[ir.Model, ir.Model],
        scales: Mapping[str, Scale],
        grids: WeightGrids,
        layers: list[_Layer],
        part: Subset,
        count: int,
        seed: int,
    ) -> None:
        self._job, self._layers, self._part, self._count = job, layers, part, count
        self._random = np.random.default_rng(seed)
        real, model = models
        self._probe = Probe(real)
        self._outputs = join(self._probe, quantized_copy(job, model, scales, grids))

    def rows(self) -> dict[str, Rows]:
        """By layer."""
        probe = self._probe
        for layer in reversed(self._layers):
            for value in self._tapped(layer):
                probe.output(value)
        found: dict[str, list[Rows]] = {layer.name: [] for layer in self._layers}
        for row in probe.arrays(
            self._part, self._job.file.spec, what="layer inputs", max_samples=len(self._part)
        ):
            arrays = iter(row)
            for layer in reversed(self._layers):
                found[layer.name].append(self._picked(layer, [next(arrays) for _ in range(3)]))
        return {name: _joined(parts) for name, parts in found.items()}

    def _tapped(self, layer: _Layer) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The layer's blurred input, its true result, and its blurred output."""
        twin = self._outputs[layer.item.node.outputs[0].name or ""].producer()
        assert twin is not None  # an output of a node
        source = twin.inputs[0]
        assert source is not None  # a weighted node reads something
        blurred = self._outputs[layer.output.name or ""]
        return source, self._probe.values[layer.result.name], blurred

    def _picked(self, layer: _Layer, arrays: list[NDArray[Any]]) -> Rows:
        x, result, blurred = arrays
        product = layer.product
        count = product.count(result.shape)
        share = -(-self._count // len(self._part))
        positions = self._random.permutation(count)[: min(share, count)]
        inputs = product.rows(x, result.shape, positions)
        nearest = product.matrix(layer.real)
        # the bias, its rounding, the other half of a split: all that the weights do not make
        offset = product.chosen(blurred, positions) - np.einsum("ngk,gok->ngo", inputs, nearest)
        return Rows(inputs, offset, product.chosen(result, positions))


def _joined(parts: list[Rows]) -> Rows:
    inputs = np.concatenate([part.inputs for part in parts])
    offset = np.concatenate([part.offset for part in parts])
    return Rows(inputs, offset, np.concatenate([part.target for part in parts]))


def _learned(
    layer: _Layer,
    learn: Rows,
    judge: Rows,
    grids: WeightGrids,
    plan: LearningPlan,
    told: _Told,
) -> tuple[RoundedLayer, Rounded]:
    product, numbers = layer.product, layer.numbers
    learned = learn_rounding(
        np.ascontiguousarray(product.matrix(layer.item.weight)),
        np.ascontiguousarray(product.matrix(layer.steps)),
        learn,
        judge,
        largest=grids.form.largest,
        bounds=layer.bounds,
        plan=plan,
        tick=told.tick,
    )
    integers = product.weight(learned.integers).reshape(numbers.weight.shape)
    energy = float(np.mean(np.square(judge.target, dtype=np.float64)))
    entry = RoundedLayer(
        layer.name,
        decibels(energy, learned.nearest_error),
        decibels(energy, learned.learned_error),
        int(np.count_nonzero(integers != numbers.weight.astype(np.int8))),
        learned.better,
    )
    return entry, Rounded(integers, numbers.scale)


class _Told:
    """Progress in hundreds of steps, over all layers."""

    def __init__(self, job: Job, layers: int, plan: LearningPlan) -> None:
        self._progress = job.progress
        self._total = layers * (plan.steps // 100)
        self._done = 0

    def tick(self) -> None:
        self._done += 1
        if self._progress:
            self._progress("adaround", self._done, self._total)
