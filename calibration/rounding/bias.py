"""Bias correction: rounding shifts the mean of a layer's output, and its bias shifts it back.

    b[c] <- b[c] - E[ y^[c] - y[c] ]        over samples and positions, y before the activation

with y^ from the quantized network and y from the float one (Nagel et al., arXiv:1906.04721, who
compute the expectation; here it is measured). A layer must be measured behind corrected ones, or
every shift is corrected again by each layer after it. That needs no pass a layer: inside the probe
each sample's own shift is taken off the quantized output before the next layer reads it, so all
layers are measured in one pass.

A second pass, over samples held back from the first, runs the corrected network and keeps a
layer's correction only if the error of its output, behind its activation, is smaller with it than
without:

    sum (act(y^) - act(y))²   <   sum (act(y^ + shift) - act(y))²

Nearer layers do not make a nearer network by themselves: errors that cancelled may no longer. So
the outputs of the whole network are compared too, as scales are judged, and unless they gain, by
more than two standard errors of the samples held back, nothing is changed.

At last the layers behind which nothing is weighted, a classifier say, are corrected once more, by
what the network as it then is gets wrong on average. Whatever the layers before them do, a mean
error of the outputs is theirs to take off; it is kept if the outputs gain, by the same measure.

Memory holds one number a channel. What cannot carry a shift is left alone, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import WEIGHTED, fresh_name, value_names
from calibration.qdq.placement import LeftFloat, Placement
from calibration.rounding.bench import Bench, CorrectedLayer
from calibration.rounding.sites import Site, find_sites
from calibration.rounding.twin import WeightGrids
from calibration.scales.methods import Scale
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job


_SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Correction:
    """Layers that were measured, and layers that cannot be corrected.

    Attributes:
        before_db, tried_db, after_db: fidelity of the network's outputs on samples held back
            (`calibration.scales.fidelity`): without corrections, with those of the layers that
            gain, and as it is left; None where nothing was measured.
    """

    layers: tuple[CorrectedLayer, ...] = ()
    left: tuple[LeftFloat, ...] = ()
    before_db: float | None = None
    tried_db: float | None = None
    after_db: float | None = None


def surely_gains(gains_db: NDArray[np.float64]) -> bool:
    """Whether the mean gain of these samples is above zero by more than two standard errors."""
    if len(gains_db) < 2:
        return bool(gains_db.sum() > 0)
    error = gains_db.std(ddof=1) / np.sqrt(len(gains_db))
    return bool(gains_db.mean() > _SURE * error)


def correct_biases(
    job: Job,
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    grids: WeightGrids,
    *,
    max_samples: int | None = None,
) -> Correction:
    """Shift the float biases of ``model``, in place, where that brings a layer's output nearer.

    Args:
        model: prepared and as ``placement`` describes it, not yet quantized; both are changed.
        max_samples: by default what a probe may cost.

    Raises:
        UserError: there are statistics instead of samples.
    """
    if job.samples is None:
        raise UserError(
            "bias correction runs samples, and there are statistics only",
            fix="Give the samples themselves, or say --no-correct-bias",
        )
    sites, left = find_sites(placement)
    if not sites:
        return Correction((), tuple(left))
    bench = Bench(job, model, scales, grids, max_samples)
    before = bench.fidelities_db()
    shifts = bench.shifts(sites)
    taken = value_names(model.graph)
    undo = [_shift(model.graph, s, shift, taken) for s, shift in zip(sites, shifts, strict=True)]
    layers = bench.judged(sites, shifts)
    for layer, site, old in zip(layers, sites, undo, strict=True):
        if not layer.kept:
            _put_back(site, old)
    tried = after = bench.fidelities_db()
    if not surely_gains(after - before):
        for layer, site, old in zip(layers, sites, undo, strict=True):
            if layer.kept:
                _put_back(site, old)
        layers = [replace(layer, kept=False) for layer in layers]
        after = before
    again, after = _correct_last(bench, model, sites, after, taken)
    layers = [again.get(layer.node, layer) for layer in layers]
    _note_biases(placement)
    means = (float(db.mean()) for db in (before, tried, after))
    return Correction(tuple(layers), tuple(left), *means)


def _correct_last(
    bench: Bench,
    model: ir.Model,
    sites: list[Site],
    before: NDArray[np.float64],
    taken: set[str],
) -> tuple[dict[str, CorrectedLayer], NDArray[np.float64]]:
    """Take the mean error of the outputs off the last layers; also returns the fidelity after."""
    last = [site for site in sites if not _is_weighed(site.output)]
    if not last:
        return {}, before
    shifts = bench.shifts_as_it_is(last)
    undo = [_shift(model.graph, s, shift, taken) for s, shift in zip(last, shifts, strict=True)]
    after = bench.fidelities_db()
    if not surely_gains(after - before):
        for site, old in zip(last, undo, strict=True):
            _put_back(site, old)
        return {}, before
    layers = bench.judged(last, shifts)
    return {layer.node: replace(layer, kept=True) for layer in layers}, after


def _is_weighed(value: ir.Value) -> bool:
    """Whether a weighted node comes behind ``value``."""
    seen: set[ir.Node] = set()
    ahead = [use.node for use in value.uses()]
    while ahead:
        node = ahead.pop()
        if node.op_type in WEIGHTED:
            return True
        if node not in seen:
            seen.add(node)
            ahead += [use.node for output in node.outputs for use in output.uses()]
    return False


def _shift(
    graph: ir.Graph, site: Site, mean: NDArray[np.float32], taken: set[str]
) -> ir.Value | None:
    """Let the carrier add ``-mean`` as well; returns what it added before."""
    import onnx_ir as ir

    node = site.carrier
    old = node.inputs[site.slot] if len(node.inputs) > site.slot else None
    added = site.constant
    shifted = (np.float32(0) if added is None else added) - mean / np.float32(site.shift_gain)
    name = fresh_name(taken, f"{node.name}/corrected_bias")
    tensor = ir.tensor(np.asarray(shifted, np.float32), name=name)
    value = ir.val(
        name, const_value=tensor, shape=ir.Shape(shifted.shape), type=ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    if len(node.inputs) <= site.slot:
        node.resize_inputs(site.slot + 1)
    node.replace_input_with(site.slot, value)
    return old


def _put_back(site: Site, old: ir.Value | None) -> None:
    site.carrier.replace_input_with(site.slot, old)
    if old is None:
        site.carrier.resize_inputs(site.slot)


def _note_biases(placement: Placement) -> None:
    """Tell the placement of biases that nodes have got."""
    for index, item in enumerate(placement.weighted):
        inputs = item.node.inputs
        has_bias = len(inputs) > 2 and inputs[2] is not None
        placement.weighted[index] = replace(item, bias_slot=2 if has_bias else None)
