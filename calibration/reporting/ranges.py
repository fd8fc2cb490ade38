"""The range of every quantized activation and weight: what was seen, what is represented.

Numbers have five significant digits: enough to read and to draw, and a model file that says them of
a hundred tensors stays small. The exact scales are in the graph itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import derived_from_inputs_only
from calibration.observing.histogram import Histogram
from calibration.observing.statistics import Statistics, TensorStatistics
from calibration.qdq.placement import Placement
from calibration.qdq.weights import IntegerWeights
from calibration.reporting import thumbnails
from calibration.scales.methods import SCALES, Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

JSON = dict[str, Any]


def activation_ranges(
    job: Job,
    graph: ir.Graph,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    statistics: Statistics,
    chosen: Mapping[str, str],
) -> list[JSON]:
    """One entry a quantized tensor, in order of placement.

    Args:
        graph: before anything is inserted.
        chosen: whose range ``auto`` took, by tensor name.

    Returns:
        ``tensor``, ``node`` and ``op_type`` of what makes it, ``minimum`` and ``maximum`` as seen,
        ``low`` and ``high`` as represented, ``clipped`` (share of the values beyond),
        ``method`` (``any`` where all propose the same), ``shared_by`` (tensors with this scale)
        and ``bars``.
    """
    whole = derived_from_inputs_only(graph)
    usual = job.options.scales
    if usual == "auto":
        usual = "any" if job.samples is not None else "mse"
    # minmax needs no histograms: what an earlier pass may have seen must not change the file
    drawn = SCALES.get(job.options.scales).needs_histogram
    entries: dict[ir.Value, JSON] = {}
    for group in placement.groups():
        unclipped = usual != "any" and any(value in whole for value in group)
        for value in group:
            method = "minmax" if unclipped else chosen.get(value.name or "", usual)
            seen = statistics.tensors[value.name or ""]
            entries[value] = {
                **_maker(value),
                **_activation_range(seen, scales[value], drawn=drawn),
                "method": method,
                "shared_by": len(group),
            }
    return [entries[value] for value in placement.tensors]


def _maker(value: ir.Value) -> JSON:
    node = value.producer()
    return {
        "tensor": value.name or "",
        "node": (node.name or "") if node is not None else "",
        "op_type": node.op_type if node is not None else "input",
    }


def _activation_range(seen: TensorStatistics, scale: Scale, *, drawn: bool) -> JSON:
    low, high = represented(scale)
    # half a step beyond the ends a value is still rounded to them, not clipped
    ends = low - scale.scale / 2, high + scale.scale / 2
    clipped, bars = 0.0, []
    if drawn and seen.histogram is not None:
        if seen.minimum < ends[0] or seen.maximum > ends[1]:
            clipped = _share_outside(seen.histogram, *ends)
        bars = thumbnails.of_histogram(seen.histogram, seen.minimum, seen.maximum)
    return {
        "minimum": short(seen.minimum),
        "maximum": short(seen.maximum),
        "low": short(low),
        "high": short(high),
        "clipped": short(clipped),
        "bars": bars,
    }


def represented(scale: Scale) -> tuple[float, float]:
    """The smallest and the largest number that the integers of ``scale`` stand for."""
    integers = np.iinfo(scale.form.dtype)
    return (
        (integers.min - scale.zero_point) * scale.scale,
        (integers.max - scale.zero_point) * scale.scale,
    )


def weight_ranges(
    weights: Iterable[tuple[ir.Node, NDArray[np.float32], IntegerWeights]],
) -> list[JSON]:
    """One entry a node with integer weights.

    Args:
        weights: node, its weights in float, and what they became.

    Returns:
        ``node``, ``op_type``, ``shape``, ``minimum``, ``maximum``, ``smallest_scale`` and
        ``largest_scale``, ``peak_to_rms`` (the largest magnitude over the root mean square: what
        one scale for all makes of the small ones), ``sqnr_db`` of the weights themselves (None
        where they are exact) and ``bars``.
    """
    return [_weight_range(*item) for item in weights]


def _weight_range(node: ir.Node, weight: NDArray[np.float32], integer: IntegerWeights) -> JSON:
    low, high = float(weight.min()), float(weight.max())
    error = integer.real.reshape(weight.shape) - weight
    energy, noise = (float(np.vdot(a, a)) for a in (weight, error))
    rms = (energy / weight.size) ** 0.5
    return {
        "node": node.name or "",
        "op_type": node.op_type,
        "shape": list(weight.shape),
        "minimum": short(low),
        "maximum": short(high),
        "smallest_scale": short(float(integer.scale.min())),
        "largest_scale": short(float(integer.scale.max())),
        "peak_to_rms": short(max(-low, high) / rms) if rms > 0 else None,
        "sqnr_db": short(10 * np.log10(energy / noise)) if noise > 0 and energy > 0 else None,
        "bars": thumbnails.of_array(weight, low, high),
    }


def short(value: float) -> float:
    """Five significant digits.

    >>> short(0.123456789)
    0.12346
    """
    return float(f"{value:.5g}")


def _share_outside(histogram: Histogram, low: float, high: float) -> float:
    """Share of the values beyond ``[low, high]``; linear within a bin."""
    edges = (np.arange(len(histogram.counts) + 1) - len(histogram.counts) / 2) * histogram.width
    below = np.concatenate(([0.0], np.cumsum(histogram.counts)))
    if below[-1] <= 0:
        return 0.0
    inside = np.interp(high, edges, below) - np.interp(low, edges, below)
    return float(max(1 - inside / below[-1], 0.0))
