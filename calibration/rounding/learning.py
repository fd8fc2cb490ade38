"""``--rounding adaround`` at work: layer after layer, with what the layers before hand on.

Every layer learns to make up for what rounding has done before it, so it has to see the layers
before it as they will be: all at once, each layer would make up for errors that the others have
just removed (``benchmarks/rounding.py`` measures what one after the other brings: 34 dB at the
output of eight layers, where nearest rounding has 23). So layers of one depth, which cannot see
each other, are one pass over a few samples, through as much of both networks as they need.

A layer's rows come from a few random positions of its output in every sample, and those of some
samples are held back to judge by: memory depends neither on the number of samples nor, beyond what
one sample takes, on the size of the activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import depths
from calibration.observing.probe import Probe
from calibration.qdq.placement import LeftFloat, Placement
from calibration.qdq.weights import Rounded
from calibration.rounding.adaround import LearningPlan, Rows, learn_rounding
from calibration.rounding.positions import Layer, collect, find_layers
from calibration.rounding.shares import decibels, learn_and_judge
from calibration.rounding.twin import WeightGrids, join, quantized_copy
from calibration.scales.methods import Scale
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

SAMPLES = 16
"""At most so many are run for every layer."""

FEWEST_ROWS = 32
"""A classifier behind a global mean has one position a sample: it would learn them by heart."""

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
    layers, left = find_layers(job, placement, scales, grids)
    named = {value.name or "": scale for value, scale in scales.items()}
    parts = learn_and_judge(job.samples, max_samples or min(Probe(model).affordable, SAMPLES))
    random = np.random.default_rng(plan.seed)
    rounded: dict[str, Rounded] = dict(grids.rounded)
    done: list[RoundedLayer] = []
    told = _Told(job, len(layers), plan)
    for run in _runs(layers, depths(model.graph)):
        probe = Probe(real or model)
        current = replace(grids, rounded=rounded)
        outputs = join(probe, quantized_copy(job, model, named, current))
        learn, judge = collect(job, probe, outputs, run, parts, random)
        for layer in run:
            count = len(learn[layer.name].inputs)
            if count < FEWEST_ROWS:
                left.append(too_few_rows(layer, count))
                continue
            entry, found = _learned(layer, learn[layer.name], judge[layer.name], grids, plan, told)
            done.append(entry)
            if entry.kept:
                rounded[layer.item.weight_name] = found
    return Learning(rounded, tuple(done), tuple(left))


def too_few_rows(layer: Layer, count: int) -> LeftFloat:
    """Why a layer keeps its nearest integers where there are fewer than `FEWEST_ROWS`."""
    reason = f"{count} output positions are too few to learn from: give more samples"
    return LeftFloat(layer.name, layer.item.node.op_type, reason)


def _runs(layers: list[Layer], depth: Mapping[ir.Node, int]) -> list[list[Layer]]:
    """Layers of one depth, as many as fit into `MEMORY_BYTES`; the shallow ones first."""
    runs: list[list[Layer]] = []
    room = 0
    for layer in sorted(layers, key=lambda layer: depth[layer.item.node]):
        deeper = runs and depth[layer.item.node] > depth[runs[-1][0].item.node]
        if not runs or deeper or layer.cost_bytes > room:
            runs.append([])
            room = MEMORY_BYTES
        runs[-1].append(layer)
        room -= layer.cost_bytes
    return runs


def _learned(
    layer: Layer,
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
