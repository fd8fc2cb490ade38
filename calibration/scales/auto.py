"""``--scales auto``: for every tensor the range that its readers suffer least from.

No single method wins: the full range wastes levels on outliers, squared error clips where a layer's
sums make clipping count more than rounding, divergence fits spiky data and fails on heavy tails. So
each method proposes a range, and what decides is the output of the layers that read the tensor,
behind their fused activation, with this one tensor rounded and all else in float:

    noise = E · mean over readers of  [ sum (y - y^)² / sum (x - x^)² ] / sum y²

The bracket, how much of the tensor's own error reaches a reader's output, is measured on a few
samples; clipping passes on more of it than rounding does. E is the tensor's own error over the
whole set, from its histogram, since a few samples say little about the tails that decide between
ranges. Where something else than a weighted layer reads the tensor too (a residual addition, a
gate), it counts as a reader with y = x. Proposals within 5 % of each other count as one.

Sums over a whole output listen to its loudest positions. In a bird's-eye view those lie beside the
vehicle: pooled features are 40 times larger there than where most of the map is, and a range for
them leaves the rest few levels. So the bracket is measured in a second way as well, relative to
every position's own energy (`Probe.relative_error`), which gives a second set of choices.

Only `calibration.scales.affordable` is measured: every tensor of a small network, those whose
proposals differ most of a large one. The others take the range of least squared error. A graph
input takes part, with the methods that weigh a clipped value by how far it is off: divergence never
clips an input, where large values are signal, not outliers.

What either set comes to is compared with the other, and with one method for all tensors, in
`calibration.scales.rivals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import (
    Weighted,
    derived_from_inputs_only,
    epilogue_of,
    readers,
    result_of,
)
from calibration.observing.probe import Probe
from calibration.observing.statistics import Statistics, TensorStatistics
from calibration.qdq.placement import Placement, Policy
from calibration.samples.base import Samples
from calibration.scales.affordable import Sizes, affordable, spread
from calibration.scales.methods import SCALES, Scale, expected_error
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})

PROPOSERS = ("minmax", "percentile", "mse", "kl-r")
EXPECTED = 3
"""Distinct proposals of a tensor, for what measuring it may cost."""

FOR_INPUTS = ("minmax", "percentile", "mse")
UNMEASURED = "mse"
QUICK = ("minmax", "mse")
"""How far these two are apart says how much there is to decide."""

SAME_RANGE = 0.05
_SILENT = 1e-20
"""Energy of a result that is as good as zero on a sample."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one group of tensors.

    Attributes:
        method: whose range it is; the first of equals.
        noise: of the readers' outputs, by proposer; empty where nothing was measured.
    """

    method: str
    scale: Scale
    noise: Mapping[str, float]


@dataclass(frozen=True)
class ByOutput:
    """One choice for every group of tensors, twice.

    Attributes:
        energy: the least noise of readers' outputs as a whole.
        position: the least noise relative to the energy of each position.
    """

    energy: list[Choice]
    position: list[Choice]


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
) -> ByOutput:
    """Two choices for each of ``groups``, tensors that share a scale.

    Args:
        model: prepared, and as ``placement`` describes it; it is not changed.
        statistics: with histograms.
        half: scales become FP16 numbers.
        max_samples: by default what is affordable, and then tensors may be left out as well.
    """
    inputs = derived_from_inputs_only(model.graph)
    witnesses = [_witnesses(group, placement) for group in groups]
    seen = [statistics.of(value.name or "" for value in group) for group in groups]
    proposals = [_proposals(one, QUICK, policy, half=half) for one in seen]
    sizes = Sizes(statistics)
    measured, count = affordable(
        model.graph,
        sizes,
        costs=[EXPECTED * sum(map(sizes.cost, of)) for of in witnesses],
        urgency=[spread({n: s.scale for n, s in options.items()}) for options in proposals],
        samples=len(samples),
    )
    if max_samples:
        measured, count = list(range(len(groups))), max_samples
    for index in measured:
        names = FOR_INPUTS if inputs.intersection(groups[index]) else PROPOSERS
        proposals[index] = _proposals(seen[index], names, policy, half=half)
    measured = [index for index in measured if len(proposals[index]) > 1]
    probe = Probe(model)
    for index in reversed(measured):
        for witness in witnesses[index]:
            _measure(probe, witness, proposals[index])
    noise: dict[int, list[dict[str, float]]] = {}
    if measured:
        rows = probe.run(samples, spec, what="scales", max_samples=count, progress=progress)
        columns = iter(rows.mean(axis=0))
        for index in reversed(measured):
            noise[index] = [
                {
                    name: share * expected_error(seen[index], proposals[index][name]) / len(samples)
                    for name, share in passed_on.items()
                }
                for passed_on in _passed_on(columns, proposals[index], witnesses[index])
            ]
    energy, position = (
        [_best(one, noise[i][kind] if i in noise else {}) for i, one in enumerate(proposals)]
        for kind in (0, 1)
    )
    return ByOutput(energy, position)


def _proposals(
    seen: TensorStatistics, names: tuple[str, ...], policy: Policy, *, half: bool
) -> dict[str, Scale]:
    """Distinct scales, by proposer; the first is that of least squared error."""
    found: dict[str, Scale] = {}
    for name in sorted(names, key=lambda name: name != UNMEASURED):
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
    """Energy of what the witness makes of the tensor, then three errors with each proposal.

    The tensor's own, the output's as a whole, and the output's relative to each position.
    """
    if isinstance(witness, Weighted):
        node = probe.nodes[witness.node.name]
        source, true, epilogue = node.inputs[0], result_of(node), epilogue_of(node)
    else:
        node, epilogue = None, None
        source = true = probe.values[witness.name]
    assert source is not None  # a weighted node reads something
    probe.sum_of_squares(true)
    for name, scale in proposals.items():
        label = f"{node.name if node else source.name}/{name}"
        result = rounded = _rounded(probe, source, scale, label)
        probe.sum_of_squares(source, rounded)
        if node is not None:
            result = probe.copy_of(node, {0: rounded}, label)
        if epilogue is not None:
            result = probe.copy_of(epilogue, {0: result}, f"{label}/activation")
        if node is not None:
            probe.sum_of_squares(true, result)
        probe.relative_error(true, result, _channel_axis(true))


def _channel_axis(value: ir.Value) -> int:
    """Channels come second in pictures, and where a convolution makes or reads them, else last."""
    rank = 0 if value.shape is None else len(value.shape)
    neighbours = [value.producer(), *readers(value)]
    convolved = any(n is not None and n.op_type in CONVOLUTIONS for n in neighbours)
    return 1 if rank >= 4 or convolved else -1


def _rounded(probe: Probe, value: ir.Value, scale: Scale, name: str) -> ir.Value:
    step = probe.constant(np.array(scale.scale, np.float32), f"{name}/scale")
    zero = probe.constant(np.array(scale.zero_point, scale.form.dtype), f"{name}/zero_point")
    (integers,) = probe.node("QuantizeLinear", [value, step, zero], f"{name}/integers")
    return probe.node("DequantizeLinear", [integers, step, zero], f"{name}/rounded")[0]


def _passed_on(
    columns: Iterator[np.float64],
    proposals: Mapping[str, Scale],
    witnesses: list[Weighted | ir.Value],
) -> tuple[dict[str, float], dict[str, float]]:
    """Relative output noise for one unit of the tensor's own error: as a whole, by position.

    Args:
        columns: what `_measure` asked for, the mean over samples.
    """
    whole, relative = dict.fromkeys(proposals, 0.0), dict.fromkeys(proposals, 0.0)
    for witness in witnesses:
        energy = max(float(next(columns)), _SILENT)
        for name in proposals:
            own = max(float(next(columns)), _SILENT)
            passed = float(next(columns)) if isinstance(witness, Weighted) else own
            whole[name] += passed / own / energy / len(witnesses)
            relative[name] += float(next(columns)) / own / len(witnesses)
    return whole, relative


def _best(proposals: Mapping[str, Scale], noise: Mapping[str, float]) -> Choice:
    method = min(noise, key=lambda name: noise[name]) if noise else next(iter(proposals))
    return Choice(method, proposals[method], noise)
