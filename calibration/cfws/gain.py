"""What a split gains, measured where it matters: on the output of the layer, with real inputs.

Beside every candidate convolution stand its plainly quantized twin and its split one, reading the
same input inside one probe model; only sums of squares leave it, so memory does not depend on the
number of samples:

    SQNR = 10 log10( sum y²  /  sum (y - y^)² )        gain = SQNR(split) - SQNR(plain)

With ``activations`` both twins read the input rounded to 8 bits (range of the sample), so that a
layer whose error comes from its input anyway gains nothing. ``rounded_branches`` rounds the two
branch outputs as well, which is what a split costs on ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.cfws.arithmetic import Floats, Granularity, quantize_symmetric, symmetric_scale
from calibration.cfws.plan import Candidate, LayerGain
from calibration.cfws.rewrite import Branches
from calibration.observing.probe import Probe, Progress
from calibration.samples.base import Samples
from calibration.scales.methods import IntegerForm
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class OutputGain:
    """Measure of `calibration.cfws.transform.split_convs`: plain against split on real samples.

    Attributes:
        spec: self-description of the model, to check the samples by.
        plain: granularity of the one grid that a split would replace.
        activations: integers that the layer's input becomes; None leaves it in float.
        rounded_branches: round the outputs of both branches too.
        max_samples: this many, spread over the set, are run; by default what is affordable.
    """

    samples: Samples
    spec: ModelSpec | None = None
    plain: Granularity = "channel"
    activations: IntegerForm | None = None
    rounded_branches: bool = False
    max_samples: int | None = None
    progress: Progress | None = None

    def __call__(self, model: ir.Model, candidates: Sequence[Candidate]) -> dict[str, LayerGain]:
        """Gain by candidate name.

        Raises:
            UserError: a sample does not fit the model.
        """
        probe = Probe(model)
        for candidate in reversed(candidates):
            self._measure(probe, replace(candidate, node=probe.nodes[candidate.name]))
        totals = probe.run(
            self.samples,
            self.spec,
            what="gain of splitting",
            max_samples=self.max_samples,
            progress=self.progress,
        ).sum(axis=0)
        return {
            candidate.name: LayerGain(_decibels(energy, plain), _decibels(energy, split))
            for candidate, (energy, plain, split) in zip(
                reversed(candidates), totals.reshape(-1, 3), strict=True
            )
        }

    def _measure(self, probe: Probe, candidate: Candidate) -> None:
        """Three numbers: energy of the layer's output, error of the plain and the split twin."""
        true, source = candidate.node.outputs[0], candidate.node.inputs[0]
        assert source is not None  # a convolution reads something
        if self.activations is not None:
            source = rounded(probe, source, self.activations)
        probe.sum_of_squares(true)
        probe.sum_of_squares(true, self._plain(probe, candidate, source))
        probe.sum_of_squares(true, self._split(probe, candidate, source))

    def _plain(self, probe: Probe, candidate: Candidate, source: ir.Value) -> ir.Value:
        bits = candidate.split.bits
        scale = symmetric_scale(candidate.weight, self.plain, bits)
        weight = _on_grid(candidate.weight, scale, bits)
        bias = [v for v in candidate.node.inputs[2:3] if v is not None]
        inputs = [source, probe.constant(weight, f"{candidate.name}/plain_weight"), *bias]
        attributes = candidate.geometry.attributes()
        return probe.node("Conv", inputs, f"{candidate.name}/plain", attributes)[0]

    def _split(self, probe: Probe, candidate: Candidate, source: ir.Value) -> ir.Value:
        split = candidate.split
        branches = Branches(probe.graph, probe.graph.append, probe.taken)
        parts = [
            branches.coarse(candidate, source),
            branches.fine(candidate, source, _on_grid(split.fine, split.fine_scale, split.bits)),
        ]
        if self.rounded_branches and self.activations is not None:
            parts = [rounded(probe, part, self.activations) for part in parts]
        return probe.node("Add", parts, f"{candidate.name}/split")[0]


def rounded(probe: Probe, value: ir.Value, form: IntegerForm) -> ir.Value:
    """``value`` through 8 bits and back, over the range that it has in each sample."""
    name = f"{value.name}/rounded"
    if form is IntegerForm.UINT8_ASYMMETRIC:
        parts = probe.node("DynamicQuantizeLinear", [value], f"{name}/integers", outputs=3)
        return probe.node("DequantizeLinear", parts, name)[0]
    (magnitude,) = probe.node("Abs", [value], f"{name}/magnitude")
    (largest,) = probe.node("ReduceMax", [magnitude], f"{name}/largest", {"keepdims": 0})
    levels = probe.constant(np.array(127, np.float32), f"{name}/levels")
    smallest = probe.constant(np.array(np.finfo(np.float32).tiny), f"{name}/smallest")
    zero = probe.constant(np.array(0, np.int8), f"{name}/zero")
    step = probe.node("Div", [largest, levels], f"{name}/step")
    (scale,) = probe.node("Max", [*step, smallest], f"{name}/scale")
    (integers,) = probe.node("QuantizeLinear", [value, scale, zero], f"{name}/integers")
    return probe.node("DequantizeLinear", [integers, scale, zero], name)[0]


def _on_grid(weight: Floats, scale: Floats, bits: int) -> Floats:
    aligned = scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale
    return np.asarray(quantize_symmetric(weight, scale, bits) * aligned, dtype=np.float32)


def _decibels(energy: float, noise: float) -> float:
    if energy == 0.0:
        return math.nan
    return math.inf if noise == 0.0 else 10.0 * math.log10(energy / noise)
