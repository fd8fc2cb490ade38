"""The error of every layer, naively quantized and as it was done, on a few samples in one session.

    SQNR of a layer = 10 log10( sum y² / sum (y - y^)² )       y behind its activation

Three networks stand side by side in one probe and read the same samples: the float one, the naive
one (full range, nearest integer, nothing split or corrected, the same nodes quantized) and the one
that the file holds. Errors add up along the network, as they do in use: a layer's y^ has all that
went wrong before it. What is cast to FP16 afterwards is not in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.queries import WEIGHTED, is_float, multiply_adds, result_of
from calibration.observing.probe import Probe
from calibration.observing.statistics import Statistics
from calibration.qdq.insertion import insert
from calibration.reporting.ranges import short
from calibration.rounding.twin import SUFFIX, join
from calibration.scales.methods import SCALES, Scale
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

MOST_SAMPLES = 8

JSON = dict[str, Any]


def layer_errors(job: Job, quantized: ir.Model, statistics: Statistics) -> list[JSON]:
    """One entry a weighted node of the float model, in graph order.

    Args:
        quantized: with its Q/DQ, not yet cast; it is copied.
        statistics: of the tensors of the model as it was read; those of ``quantized`` may be more.

    Returns:
        ``node``, ``op_type``, ``multiply_adds``, ``integer`` (whether its weights are),
        ``sqnr_before_db`` and ``sqnr_after_db``: None where the copy is exact or the layer silent.

    Raises:
        UserError: there are statistics instead of samples.
    """
    if job.samples is None:
        raise UserError(
            "the error of layers is measured on samples, and there are statistics only",
            fix="Give the samples themselves",
        )
    model = job.prepared()
    probe = Probe(model)
    naive = join(probe, _naive(job, model, statistics))
    for node in probe.graph:  # names of nodes are unique, and the next half gets the same suffix
        if node.name and node.name.endswith(SUFFIX):
            node.name = f"{node.name.removesuffix(SUFFIX)}/naive"
    chosen = join(probe, quantized.clone())
    integer = _integer_nodes(quantized)
    layers = [
        node
        for node in model.graph
        if node.op_type in WEIGHTED
        and is_float(result_of(node))
        and all((result_of(node).name or "") in side for side in (naive, chosen))
    ]
    for node in reversed(layers):
        name = result_of(node).name or ""
        real = probe.values[name]
        probe.sum_of_squares(real)
        for side in (naive, chosen):
            probe.sum_of_squares(real, side[name])
    rows = probe.run(
        job.samples,
        job.file.spec,
        what="measure layers",
        max_samples=min(probe.affordable, MOST_SAMPLES),
        progress=job.progress,
    )
    sums = rows.sum(axis=0).reshape(-1, 3)[::-1] if layers else np.zeros((0, 3))
    return [
        {
            "node": node.name or "",
            "op_type": node.op_type,
            "multiply_adds": multiply_adds(node),
            "integer": (node.name or "") in integer,
            "sqnr_before_db": _decibels(energy, before),
            "sqnr_after_db": _decibels(energy, after),
        }
        for node, (energy, before, after) in zip(layers, sums, strict=True)
    ]


def _naive(job: Job, model: ir.Model, statistics: Statistics) -> ir.Model:
    """The file that a tool without any method would write: everything seen is represented."""
    copy = model.clone()
    placement = job.policy.place(copy.graph, job.floats)
    scales = {}
    for group in placement.groups():
        seen = statistics.of(value.name or "" for value in group)
        bounds = SCALES.get("minmax").range_of(seen, job.policy.form)
        scale = Scale.of(bounds, job.policy.form, half=job.half)
        scales.update(dict.fromkeys(group, scale))
    insert(
        copy,
        placement,
        scales,
        integer_bias=job.policy.integer_bias,
        half=job.half,
        form=job.form,
    )
    return copy


def _integer_nodes(quantized: ir.Model) -> set[str]:
    """Weighted nodes whose weights are integers; of a split one, the node it was."""
    from calibration.cfws.plan import COARSE, FINE

    found = set()
    for node in quantized.graph:
        if node.op_type in WEIGHTED and len(node.inputs) > 1 and _is_dequantized(node.inputs[1]):
            found |= {node.name or "", (node.name or "").removesuffix(COARSE).removesuffix(FINE)}
    return found


def _is_dequantized(value: ir.Value | None) -> bool:
    """Through the Reshape of a blocked kernel, too."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Reshape":
        producer = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


def _decibels(energy: float, noise: float) -> float | None:
    if energy <= 0.0 or noise <= 0.0:
        return None
    return short(10 * math.log10(energy / noise))
