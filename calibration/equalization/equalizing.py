"""``--equalize``: measure the channels of what a policy rounds, then rescale the float model.

    weight[o, i]  <-  weight[o, i] * s_in[i] / s_out[o]        bias[o]  <-  bias[o] / s_out[o]

Nothing is added to the graph, and its outputs stay what they were up to float rounding, which is
measured on a real sample like every other change of the file. A tensor between two such weights is
another one afterwards and is called ``name/equalized``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.equalization.channels import find_channels, is_depthwise
from calibration.equalization.factors import (
    EXPONENT,
    INTEGER_EXPONENT,
    Factors,
    by_tensor,
    choose_factors,
)
from calibration.graph.queries import Weighted, fresh_name, value_names
from calibration.observing.probe import Probe
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from calibration.job import Job

SUFFIX = "/equalized"
SHARE, FEWEST, MOST = 0.25, 2, 8
"""Of the calibration set, and how many samples at least and at most."""


def equalizing_factors(job: Job, model: ir.Model) -> dict[str, Factors]:
    """Factors by tensor name, ``[channels]``, for ``rescale``; ``model`` is not changed.

    Raises:
        UserError: there are statistics instead of samples.
    """
    if job.samples is None:
        raise UserError(
            "--equalize runs samples, and there are statistics only",
            fix="Give the samples themselves, or leave --equalize out",
        )
    channels = find_channels(model.graph)
    rounded = job.policy.place(model.graph, job.floats).tensors
    tensors = [v for v in rounded if any(not s.root.fixed for s in channels.of.get(v, ()))]
    if not tensors:
        return {}
    probe = Probe(model)
    for value in reversed(tensors):
        (size,) = probe.node("Abs", [probe.values[value.name]], f"{value.name}/size")
        (peak,) = probe.node("GlobalMaxPool", [size], f"{value.name}/peak")
        probe.output(peak)
    count = min(max(int(SHARE * len(job.samples)), FEWEST), MOST)
    ranges: dict[ir.Value, NDArray[Any]] = {}
    for row in probe.arrays(
        job.samples, job.file.spec, what="equalize", max_samples=count, progress=job.progress
    ):
        for value, peaks in zip(tensors, reversed(row), strict=True):
            largest = peaks.reshape(*peaks.shape[:2]).max(axis=0)
            ranges[value] = np.maximum(ranges.get(value, 0.0), largest)
    exponent = INTEGER_EXPONENT if job.policy.integer_results else EXPONENT
    return by_tensor(channels, choose_factors(channels, ranges, exponent))


def rescale(model: ir.Model, factors: Mapping[str, Factors]) -> None:
    """Divide the channels of every tensor of ``factors`` by them, in place."""
    channels = find_channels(model.graph)
    for item in channels.convolutions:
        source, result = (value.name or "" for value in (item.data, item.node.outputs[0]))
        _rescale(item, factors.get(source), factors.get(result))
    taken = value_names(model.graph)
    for value in channels.of:
        if value.name in factors:
            value.name = fresh_name(taken, f"{value.name}{SUFFIX}")


def _rescale(item: Weighted, before: Factors | None, after: Factors | None) -> None:
    """Args: factors of the input's and of the result's channels; None where all are 1."""
    weight = item.weight.astype(np.float64)
    outputs, inputs = (1, 0) if item.node.op_type == "ConvTranspose" else (0, 1)
    if before is not None:
        weight = weight * _along(before, 0 if is_depthwise(item) else inputs, weight.ndim)
    if after is not None:
        weight = weight / _along(after, outputs, weight.ndim)
        if item.bias is not None and item.bias_slot is not None:
            _replace(item.node.inputs[item.bias_slot], item.bias / after)
    if before is not None or after is not None:
        _replace(item.node.inputs[item.weight_slot], weight)


def _along(factors: Factors, axis: int, rank: int) -> Factors:
    return factors.reshape([-1 if i == axis else 1 for i in range(rank)])


def _replace(value: ir.Value | None, array: NDArray[Any]) -> None:
    import onnx_ir as ir

    assert value is not None  # the slot held the constant that ``array`` was made from
    value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
