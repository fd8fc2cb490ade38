"""``--rounding gptq`` at work: rows of every layer's inputs, then each layer by itself.

The inputs are the float network's, rounded as they will be, so a few samples serve all layers at
once, and the result does not depend on the order of layers. (``--rounding adaround`` runs the
rounded network again for every layer; it learns more and takes many times as long.)

A layer's rows come from a few random positions of its output in every sample. Those of some samples
are held back, and a layer whose product errs less there with nearest rounding keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import element_count
from calibration.observing.probe import Probe
from calibration.qdq.placement import LeftFloat, Placement
from calibration.qdq.weights import Rounded
from calibration.rounding.gptq import round_with_feedback
from calibration.rounding.learning import FEWEST_ROWS, Learning, RoundedLayer, too_few_rows
from calibration.rounding.positions import ROWS, Layer, find_layers
from calibration.rounding.shares import decibels, learn_and_judge
from calibration.rounding.twin import WeightGrids
from calibration.samples.base import Array
from calibration.samples.subset import Subset
from calibration.scales.methods import Scale
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

Floats = NDArray[np.float32]

SAMPLES = 16
"""At most so many are run; fewer where layers need several runs."""

FEWEST_SAMPLES = 4

MOST_INPUTS = 4608
"""Under one kernel: nine taps of 512 channels take a second or two."""

MEMORY_BYTES = 1 << 29
"""Of the activations that one run hands out."""

_TINY = 1e-30


def compensate_roundings(
    job: Job,
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    grids: WeightGrids,
) -> Learning:
    """Integers of every weight of ``placement`` whose layer can be written as a product.

    Args:
        model: prepared and as ``placement`` describes it; it is not changed.
        scales: of activations; their rounding is part of what the layers see.

    Raises:
        UserError: there are statistics instead of samples.
    """
    if job.samples is None:
        raise UserError(
            "--rounding gptq runs samples, and there are statistics only",
            fix="Give the samples themselves, or choose --rounding nearest",
        )
    layers, left = find_layers(job, placement, scales, grids)
    left += [_too_wide(layer) for layer in layers if layer.width > MOST_INPUTS]
    layers = [layer for layer in layers if layer.width <= MOST_INPUTS]
    runs = _runs(layers)
    most = min(Probe(model).affordable, SAMPLES)
    parts = learn_and_judge(job.samples, max(most // max(len(runs), 1), FEWEST_SAMPLES))
    random = np.random.default_rng(0)
    rounded: dict[str, Rounded] = dict(grids.rounded)
    done: list[RoundedLayer] = []
    for run in runs:
        learn, judge = _rows(job, model, run, scales, parts, random)
        for layer in run:
            rows = learn.pop(layer.name)
            if len(rows) < FEWEST_ROWS:
                left.append(too_few_rows(layer, len(rows)))
                continue
            scale, held_back = scales.get(layer.item.data), judge.pop(layer.name)
            entry, found = _compensated(layer, rows, held_back, scale, grids.form.largest)
            done.append(entry)
            if entry.kept:
                rounded[layer.item.weight_name] = found
            if job.progress:
                job.progress("rounding", len(done), len(layers))
    return Learning(rounded, tuple(done), tuple(left))


def _too_wide(layer: Layer) -> LeftFloat:
    reason = f"{layer.width} inputs under one kernel: more than {MOST_INPUTS} take too long"
    return LeftFloat(layer.name, layer.item.node.op_type, reason)


def _runs(layers: list[Layer]) -> list[list[Layer]]:
    """As many layers at once as fit into `MEMORY_BYTES`; those of unknown size by themselves."""
    runs: list[list[Layer]] = []
    room = 0
    for layer in layers:
        size = 4 * (element_count(layer.item.data) or MEMORY_BYTES)
        if not runs or size > room:
            runs.append([])
            room = MEMORY_BYTES
        runs[-1].append(layer)
        room -= size
    return runs


def _rows(
    job: Job,
    model: ir.Model,
    layers: list[Layer],
    scales: Mapping[ir.Value, Scale],
    parts: tuple[Subset, Subset],
    random: np.random.Generator,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`_levels` ``[n, groups, k]`` by layer, to learn from and to judge by: one pass over both."""
    learn, judge = parts
    together = learn.joined(judge)
    probe = Probe(model)
    for layer in reversed(layers):
        probe.output(probe.values[layer.item.data.name])
        probe.shape_of(probe.values[layer.item.node.outputs[0].name])
    found: list[dict[str, list[Array]]] = [{layer.name: [] for layer in layers} for _ in parts]
    seen = probe.arrays(together, job.file.spec, what="layer inputs", max_samples=len(together))
    for index, row in zip(together.indices, seen, strict=True):
        for part, rows, count in zip(parts, found, (ROWS, ROWS // 4), strict=True):
            if index not in part.indices:
                continue
            arrays = iter(row)
            for layer in reversed(layers):
                x, shape = next(arrays), tuple(int(size) for size in next(arrays))
                chosen = random.permutation(layer.product.count(shape))[: -(-count // len(part))]
                picked = layer.product.rows(x, shape, chosen)
                rows[layer.name].append(_levels(picked, scales.get(layer.item.data)))
    return tuple({name: np.concatenate(pieces) for name, pieces in rows.items()} for rows in found)  # type: ignore[return-value]


def _levels(rows: Floats, scale: Scale | None) -> Array:
    """The integers that the layer will read, a byte each; floats where its input stays float."""
    if scale is None:
        return rows
    limits = np.iinfo(scale.form.dtype)
    levels = np.rint(rows / np.float32(scale.scale)) + scale.zero_point
    return np.asarray(np.clip(levels, limits.min, limits.max), scale.form.dtype)


def _numbers(levels: Array, scale: Scale | None) -> Floats:
    """In units of the scale, or of the largest: only ratios of errors count."""
    if scale is None:
        return np.asarray(levels / max(float(np.abs(levels).max()), _TINY), np.float32)
    return np.asarray(levels.astype(np.float32) - scale.zero_point, np.float32)


def _compensated(
    layer: Layer, learn: Array, judge: Array, scale: Scale | None, largest: int
) -> tuple[RoundedLayer, Rounded]:
    product, numbers = layer.product, layer.numbers
    weight, steps = product.matrix(layer.item.weight), product.matrix(layer.steps)
    nearest = product.matrix(layer.real)
    integers = np.empty(weight.shape, np.int8)
    energy = before = after = 0.0
    for group, (w, step) in enumerate(zip(weight, steps, strict=True)):
        rows, held_back = (_numbers(part[:, group], scale) for part in (learn, judge))
        integers[group] = round_with_feedback(w, step, rows.T @ rows, largest)
        energy += _sum_of_squares(held_back, w)
        before += _sum_of_squares(held_back, nearest[group] - w)
        after += _sum_of_squares(held_back, integers[group] * step - w)
    stored = product.weight(integers).reshape(numbers.weight.shape)
    moved = int(np.count_nonzero(stored != numbers.weight.astype(np.int8)))
    entry = RoundedLayer(
        layer.name, decibels(energy, before), decibels(energy, after), moved, after < before
    )
    return entry, Rounded(stored, numbers.scale)


def _sum_of_squares(rows: Floats, weight: NDArray[Any]) -> float:
    peak = max(float(np.abs(weight).max()), _TINY)
    made = rows @ (weight.T / peak).astype(np.float32)
    return float(np.sum(np.square(made, dtype=np.float64))) * peak * peak
