"""``--scales auto``: for every tensor the range that its readers suffer least from.

No single method wins: the full range wastes levels on outliers, squared error clips where a layer's
sums make clipping count more than rounding, divergence fits spiky data and fails on heavy tails. So
each method proposes a range, and what decides is the output of the layers that read the tensor:

    noise = sum over readers of  sum (y - y^)² / sum y²      y^ with this tensor alone rounded

measured on real samples behind the fused activation. Proposals within 1 % of each other count as
one; one whose expected error on the tensor itself is 8 times that of the best is not measured. A
tensor that no weighted node reads takes the range of least squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import Weighted, epilogue_of, result_of
from calibration.observing.probe import PROBE_SAMPLES, Probe
from calibration.observing.statistics import Statistics, TensorStatistics
from calibration.qdq.placement import Placement, Policy
from calibration.samples.base import Samples
from calibration.scales.methods import SCALES, Scale, expected_error
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

PROPOSERS = ("minmax", "percentile", "mse", "kl-r", "entropy")
WITHOUT_READERS = "mse"
SAME_RANGE = 0.01
HOPELESS = 8.0


@dataclass(frozen=True)
class Choice:
    """What was chosen for one group of tensors.

    Attributes:
        method: whose range it is; the first of equals.
        noise: relative output noise by proposer; empty where nothing had to be measured.
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
    max_samples: int = PROBE_SAMPLES,
    progress: Progress | None = None,
) -> list[Choice]:
    """One choice for each of ``groups``, tensors that share a scale.

    Args:
        model: prepared, and as ``placement`` describes it; it is not changed.
        statistics: with histograms.
        half: scales become FP16 numbers.
    """
    readers = [[r for r in placement.weighted if r.data in set(group)] for group in groups]
    proposals = []
    for group, reading in zip(groups, readers, strict=True):
        seen = statistics.of(value.name or "" for value in group)
        names = PROPOSERS if reading else (WITHOUT_READERS,)
        proposals.append(_proposals(seen, names, policy, half=half))
    probe = Probe(model)
    measured = [i for i, options in enumerate(proposals) if len(options) > 1]
    for index in reversed(measured):
        for reader in readers[index]:
            _measure(probe, reader, proposals[index])
    noise: dict[int, dict[str, float]] = {}
    if measured:
        totals = iter(
            probe.run(samples, spec, what="scales", max_samples=max_samples, progress=progress)
        )
        for index in reversed(measured):
            noise[index] = _relative_noise(totals, proposals[index], len(readers[index]))
    return [_best(options, noise.get(i, {})) for i, options in enumerate(proposals)]


def _proposals(
    seen: TensorStatistics, names: Iterable[str], policy: Policy, *, half: bool
) -> dict[str, Scale]:
    """Distinct scales worth measuring, by proposer."""
    found: dict[str, Scale] = {}
    errors: dict[str, float] = {}
    for name in names:
        bounds = SCALES.get(name).range_of(seen, policy.form)
        scale = Scale.of(bounds, policy.form, half=half)
        if not any(_alike(scale, other) for other in found.values()):
            found[name] = scale
            errors[name] = expected_error(seen, bounds, policy.form)
    limit = HOPELESS * min(errors.values())
    return {name: scale for name, scale in found.items() if errors[name] <= limit}


def _alike(a: Scale, b: Scale) -> bool:
    return abs(a.scale - b.scale) <= SAME_RANGE * b.scale and abs(a.zero_point - b.zero_point) <= 1


def _measure(probe: Probe, reader: Weighted, proposals: Mapping[str, Scale]) -> None:
    """Energy of the reader's result, then its error with each proposal."""
    node = probe.nodes[reader.node.name]
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
    totals: Iterator[np.float64], proposals: Mapping[str, Scale], readers: int
) -> dict[str, float]:
    noise = dict.fromkeys(proposals, 0.0)
    for _ in range(readers):
        energy = float(next(totals))
        for name in proposals:
            noise[name] += float(next(totals)) / max(energy, np.finfo(np.float64).tiny)
    return noise


def _best(proposals: Mapping[str, Scale], noise: Mapping[str, float]) -> Choice:
    method = min(proposals, key=lambda name: noise.get(name, 0.0))
    return Choice(method, proposals[method], noise)
