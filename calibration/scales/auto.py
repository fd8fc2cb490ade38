"""``--scales auto``: for every tensor the range that its readers suffer least from.

No single method wins: the full range wastes levels on outliers, squared error clips where a layer's
sums make clipping count more than rounding, divergence fits spiky data and fails on heavy tails. So
each method proposes a range, and what decides is the output of the layers that read the tensor,
behind their fused activation, with this one tensor rounded and all else in float:

    noise = mean over readers and samples of  sum (y - y^)² / sum y²

Every sample counts alike: sums over the whole set would let the loudest one decide. A mean of
decibels would not do: it forgives the one sample that is clipped to pieces. Where something else
than a weighted layer reads the tensor too (a residual addition, a gate), y is the tensor itself
besides. Proposals within 1 % of each other count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import Weighted, epilogue_of, readers, result_of
from calibration.observing.probe import Probe
from calibration.observing.statistics import Statistics
from calibration.qdq.placement import Placement, Policy
from calibration.samples.base import Samples
from calibration.scales.methods import SCALES, Scale
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

PROPOSERS = ("minmax", "percentile", "mse", "kl-r", "entropy")
SAME_RANGE = 0.01
_SILENT = 1e-20
"""Energy of a result that is as good as zero on a sample."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one group of tensors.

    Attributes:
        method: whose range it is; the first of equals.
        noise: of the readers' outputs, by proposer; empty where all propose the same.
    """

    method: str
    scale: Scale
    noise: Mapping[str, float]


def choose_by_output(
    model: ir.Model,
    groups: list[list[ir.Value]],
    placement: Placement,
    statistics: Statistics,
    samples: Samples,
    *,
    policy: Policy,
    spec: ModelSpec | None,
    half: bool,
    max_samples: int | None = None,
    progress: Progress | None = None,
) -> list[Choice]:
    """One choice for each of ``groups``, tensors that share a scale.

    Args:
        model: prepared, and as ``placement`` describes it; it is not changed.
        statistics: with histograms.
        half: scales become FP16 numbers.
    """
    proposals = [_proposals(statistics, group, policy, half=half) for group in groups]
    witnesses = [_witnesses(group, placement) for group in groups]
    measured = [i for i, options in enumerate(proposals) if len(options) > 1]
    probe = Probe(model)
    for index in reversed(measured):
        for witness in witnesses[index]:
            _measure(probe, witness, proposals[index])
    noise: dict[int, dict[str, float]] = {}
    if measured:
        rows = probe.run(samples, spec, what="scales", max_samples=max_samples, progress=progress)
        columns = iter(rows.T)
        for index in reversed(measured):
            noise[index] = _relative_noise(columns, proposals[index], len(witnesses[index]))
    return [_best(options, noise.get(i, {})) for i, options in enumerate(proposals)]


def _proposals(
    statistics: Statistics, group: list[ir.Value], policy: Policy, *, half: bool
) -> dict[str, Scale]:
    """Distinct scales, by proposer."""
    seen = statistics.of(value.name or "" for value in group)
    found: dict[str, Scale] = {}
    for name in PROPOSERS:
        bounds = SCALES.get(name).range_of(seen, policy.form)
        scale = Scale.of(bounds, policy.form, half=half)
        if not any(_alike(scale, other) for other in found.values()):
            found[name] = scale
    return found


def _witnesses(group: list[ir.Value], placement: Placement) -> list[Weighted | ir.Value]:
    """Weighted nodes that read a tensor of ``group``, and tensors that others read as well."""
    found: list[Weighted | ir.Value] = [r for r in placement.weighted if r.data in set(group)]
    weighing = {reader.node for reader in found if isinstance(reader, Weighted)}
    for value in group:
        tensor = placement.tensors[value]
        reading = set(readers(value)) if tensor.whole else {node for node, _ in tensor.readers}
        if reading - weighing or not reading:
            found.append(value)
    return found


def _alike(a: Scale, b: Scale) -> bool:
    return abs(a.scale - b.scale) <= SAME_RANGE * b.scale and abs(a.zero_point - b.zero_point) <= 1


def _measure(probe: Probe, witness: Weighted | ir.Value, proposals: Mapping[str, Scale]) -> None:
    """Energy of what the witness makes of the tensor, then its error with each proposal."""
    if not isinstance(witness, Weighted):
        value = probe.values[witness.name]
        probe.sum_of_squares(value)
        for name, scale in proposals.items():
            probe.sum_of_squares(value, _rounded(probe, value, scale, f"{value.name}/{name}"))
        return
    node = probe.nodes[witness.node.name]
    source, true = node.inputs[0], result_of(node)
    assert source is not None  # a weighted node reads something
    epilogue = epilogue_of(node)
    probe.sum_of_squares(true)
    for name, scale in proposals.items():
        label = f"{node.name}/{name}"
        result = probe.copy_of(node, {0: _rounded(probe, source, scale, label)}, label)
        if epilogue is not None:
            result = probe.copy_of(epilogue, {0: result}, f"{label}/activation")
        probe.sum_of_squares(true, result)


def _rounded(probe: Probe, value: ir.Value, scale: Scale, name: str) -> ir.Value:
    step = probe.constant(np.array(scale.scale, np.float32), f"{name}/scale")
    zero = probe.constant(np.array(scale.zero_point, scale.form.dtype), f"{name}/zero_point")
    (integers,) = probe.node("QuantizeLinear", [value, step, zero], f"{name}/integers")
    return probe.node("DequantizeLinear", [integers, step, zero], f"{name}/rounded")[0]


def _relative_noise(
    columns: Iterator[NDArray[np.float64]], proposals: Mapping[str, Scale], witnesses: int
) -> dict[str, float]:
    """Of each proposal; ``columns`` has, a number a sample, what `_measure` asked for."""
    noise = dict.fromkeys(proposals, 0.0)
    for _ in range(witnesses):
        energy = np.maximum(next(columns), _SILENT)
        for name in proposals:
            noise[name] += float(np.mean(next(columns) / energy)) / witnesses
    return noise


def _best(proposals: Mapping[str, Scale], noise: Mapping[str, float]) -> Choice:
    method = min(proposals, key=lambda name: noise.get(name, 0.0))
    return Choice(method, proposals[method], noise)
