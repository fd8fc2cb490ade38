"""The quantized network beside the float one, in one session and on the same samples.

The quantized half is made by the very code that writes the file (`calibration.qdq.insertion`), so
that every layer sees what it will see: inputs that all layers before it have already blurred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import fresh_name
from calibration.observing.probe import Probe
from calibration.qdq.insertion import insert
from calibration.qdq.weights import INT8, Rounded, WeightForm
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

SUFFIX = "/twin"


@dataclass(frozen=True)
class WeightGrids:
    """How weights become integers, by initializer name: see `calibration.qdq.insertion.insert`."""

    form: WeightForm = INT8
    scales: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    rounded: Mapping[str, Rounded] = field(default_factory=dict)


def quantized_copy(
    job: Job, model: ir.Model, scales: Mapping[str, Scale], grids: WeightGrids
) -> ir.Model:
    """``model`` with Q/DQ where the job's policy puts them; weights that stay float are shared.

    Args:
        scales: of activations, by tensor name.
    """
    copy = model.clone()
    placement = job.policy.place(copy.graph, job.floats)
    insert(
        copy,
        placement,
        {value: scales[value.name or ""] for value in placement.tensors},
        integer_bias=job.policy.integer_bias,
        half=job.half,
        form=grids.form,
        weight_scales=grids.scales,
        rounded=grids.rounded,
    )
    return copy


def join(probe: Probe, quantized: ir.Model) -> dict[str, ir.Value]:
    """Move the nodes of ``quantized`` into the probe's graph, where they read the same inputs.

    Args:
        quantized: a copy made for this; it is empty afterwards.

    Returns:
        Values of the quantized half by the names that they had.
    """
    graph = quantized.graph
    graph.outputs.clear()
    for fed in graph.inputs:
        fed.replace_all_uses_with(probe.values[fed.name or ""])
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        real = probe.graph.initializers.get(name)
        if real is not None and real.const_value is value.const_value:
            value.replace_all_uses_with(real)
        elif value.uses():
            value.name = fresh_name(probe.taken, name + SUFFIX)
            probe.graph.register_initializer(value)
    nodes = list(graph)
    values = {v.name or "": v for node in nodes for v in node.outputs}
    graph.remove(nodes)
    for node in nodes:
        node.name = f"{node.name}{SUFFIX}"
        for value in node.outputs:
            value.name = fresh_name(probe.taken, f"{value.name}{SUFFIX}")
    probe.graph.extend(nodes)
    return values
