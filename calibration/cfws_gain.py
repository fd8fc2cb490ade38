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
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.cfws_plan import Candidate, LayerGain
from calibration.cfws_rewrite import Branches
from calibration.feeds import checked_feeds, expected_inputs
from calibration.graph import value_names
from calibration.samples.base import Samples
from calibration.scales import IntegerForm
from calibration.split import Granularity, quantize_symmetric, symmetric_scale

if TYPE_CHECKING:
    import onnx_ir as ir

PROBE_SAMPLES = 4

_ENERGY, _PLAIN, _SPLIT = "energy", "plain", "split"


@dataclass(frozen=True)
class OutputGain:
    """Measure of `calibration.cfws.split_convs`: plain against split on real samples.

    Attributes:
        plain: granularity of the one grid that a split would replace.
        activations: integers that the layer's input becomes; None leaves it in float.
        rounded_branches: round the outputs of both branches too.
        max_samples: this many, spread over the set, are run.
    """

    samples: Samples
    plain: Granularity = "channel"
    activations: IntegerForm | None = None
    rounded_branches: bool = False
    max_samples: int = PROBE_SAMPLES

    def __call__(self, model: ir.Model, candidates: Sequence[Candidate]) -> dict[str, LayerGain]:
        """Gain by candidate name; the samples are checked against the model's inputs.

        Raises:
            UserError: a sample does not fit the model.
        """
        probe = model.clone()
        outputs = _probe(probe, candidates, self)
        session = _session(probe)
        sums = np.zeros(len(outputs), dtype=np.float64)
        step = max(len(self.samples) // self.max_samples, 1)
        feeds = checked_feeds(self.samples, expected_inputs(model.graph, None))
        for _, feed in islice(feeds, 0, step * self.max_samples, step):
            sums += np.array(session.run(outputs, feed), dtype=np.float64)
        triples = sums.reshape(-1, 3)[::-1]  # the probe's outputs are in reverse order
        return {
            candidate.name: LayerGain(_decibels(energy, plain), _decibels(energy, split))
            for candidate, (energy, plain, split) in zip(candidates, triples, strict=True)
        }


def _probe(graph_model: ir.Model, candidates: Sequence[Candidate], how: OutputGain) -> list[str]:
    """Make sums of squares the only outputs; last layer first, as `calibration.taps` explains."""
    graph = graph_model.graph
    nodes = {node.name: node for node in graph}
    taken = value_names(graph)
    graph.outputs.clear()
    for candidate in reversed(candidates):
        own = replace(candidate, node=nodes[candidate.name])
        twins = _Twins(graph, own, taken)
        true = own.node.outputs[0]
        plain, split = twins.outputs(how)
        for kind, value in ((_ENERGY, None), (_PLAIN, plain), (_SPLIT, split)):
            graph.outputs.append(twins.energy(true, value, kind))
    return [output.name or "" for output in graph.outputs]


class _Twins:
    """The quantized doubles of one convolution, in front of it, and their errors, behind all."""

    def __init__(self, graph: ir.Graph, candidate: Candidate, taken: set[str]) -> None:
        self._graph = graph
        self._candidate = candidate
        self._branches = Branches(graph, candidate.node, taken)
        self._taken = taken

    def outputs(self, how: OutputGain) -> tuple[ir.Value, ir.Value]:
        candidate, branches = self._candidate, self._branches
        source = candidate.node.inputs[0]
        assert source is not None  # a convolution reads something
        if how.activations is not None:
            source = self._rounded(source, how.activations)
        plain = self._plain(source, how.plain)
        split = candidate.split
        coarse = branches.coarse(candidate, source)
        steps = split.fine_scale.reshape(-1, *[1] * (split.fine.ndim - 1))
        fine = branches.fine(candidate, source, (split.fine_q * steps).astype(np.float32))
        if how.rounded_branches and how.activations is not None:
            coarse, fine = (self._rounded(v, how.activations) for v in (coarse, fine))
        return plain, branches.node("Add", [coarse, fine], f"{candidate.name}/{_SPLIT}")

    def energy(self, true: ir.Value, other: ir.Value | None, kind: str) -> ir.Value:
        """Sum of squares of ``true - other``, or of ``true``; a new graph output's value."""
        import onnx_ir as ir

        name = f"{self._candidate.name}/{kind}"
        value = true
        if other is not None:
            value = self._append("Sub", [true, other], f"{name}/error")
        output = self._append("ReduceSumSquare", [value], f"{name}/sum", {"keepdims": 0})
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        return output

    def _plain(self, source: ir.Value, granularity: Granularity) -> ir.Value:
        candidate, branches = self._candidate, self._branches
        weight = candidate.weight
        scale = symmetric_scale(weight, granularity, candidate.split.bits)
        integers = quantize_symmetric(weight, scale, candidate.split.bits)
        rounded = (integers * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        name = f"{candidate.name}/{_PLAIN}"
        bias = [v for v in candidate.node.inputs[2:3] if v is not None]
        inputs = [source, branches.constant(rounded, name + "/weight"), *bias]
        return branches.node("Conv", inputs, name, candidate.geometry.attributes())

    def _rounded(self, value: ir.Value, form: IntegerForm) -> ir.Value:
        """``value`` through 8 bits and back, over the range that it has in this sample."""
        import onnx_ir as ir

        branches, name = self._branches, f"{value.name}/rounded"
        if form is IntegerForm.UINT8_ASYMMETRIC:
            node = ir.node("DynamicQuantizeLinear", [value], num_outputs=3, name=name)
            self._graph.insert_before(self._candidate.node, node)
            for output, part in zip(node.outputs, ("integers", "scale", "zero"), strict=True):
                output.name = branches.free_name(f"{name}/{part}")
            return branches.node("DequantizeLinear", list(node.outputs), f"{name}/float")
        magnitude = branches.node("Abs", [value], f"{name}/abs")
        largest = branches.node("ReduceMax", [magnitude], f"{name}/max", {"keepdims": 0})
        levels = branches.constant(np.array(127, np.float32), f"{name}/levels")
        smallest = branches.constant(np.array(np.finfo(np.float32).tiny), f"{name}/smallest")
        step = branches.node("Div", [largest, levels], f"{name}/quotient")
        scale = branches.node("Max", [step, smallest], f"{name}/scale")
        zero = branches.constant(np.array(0, np.int8), f"{name}/zero")
        integers = branches.node("QuantizeLinear", [value, scale, zero], f"{name}/integers")
        return branches.node("DequantizeLinear", [integers, scale, zero], f"{name}/float")

    def _append(
        self, op_type: str, inputs: list[ir.Value], name: str, attributes: Any = None
    ) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes, name=name)
        node.outputs[0].name = self._branches.free_name(name)
        self._graph.append(node)
        output: ir.Value = node.outputs[0]
        return output


def _session(model: ir.Model) -> Any:
    import onnx_ir as ir
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.disable_quant_qdq", "1"
    )  # errors as Q/DQ defines them
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _decibels(energy: float, noise: float) -> float:
    if energy == 0.0:
        return math.nan
    return math.inf if noise == 0.0 else 10.0 * math.log10(energy / noise)
