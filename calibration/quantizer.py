"""Model file and samples in, INT8 model file out.

    prepare -> (split) -> place -> observe -> scales -> insert Q/DQ -> (cast the rest) -> save

One pass over the samples whatever the method; none if statistics of an earlier pass are given. The
output keeps names and self-description and says in ``edgeport.quantization`` what was done to it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph import WEIGHTED, derived_from_inputs_only, multiply_adds
from calibration.memory import PeakMemory
from calibration.observers import observe_graph
from calibration.options import QuantizeOptions, QuantizeResult
from calibration.placement import FloatRules, Placement, Policy
from calibration.policies import POLICIES, all_tensors
from calibration.prepare import prepare
from calibration.qdq import insert
from calibration.samples.base import Samples
from calibration.samples.checks import require_samples
from calibration.scales import SCALES, Scale
from calibration.splitting import described, split_weights
from calibration.statistics import Statistics
from calibration.weights import ROUNDINGS
from exporters.errors import UserError
from exporters.files import require_writable
from exporters.modelfile import PREFIX, ModelFile, canonical_json, save_model

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

REPORT_SCHEMA = "edgeport.quantization/1"


def quantize(
    model: ModelFile | Path | str,
    samples: Samples | Statistics,
    output: Path | str,
    options: QuantizeOptions | None = None,
    *,
    progress: Progress | None = None,
) -> QuantizeResult:
    """Quantize ``model`` with ranges from ``samples`` and write ``output``.

    Args:
        samples: a calibration set, or what ``observe`` returned for this very model.

    Raises:
        UserError: the model cannot be quantized, a sample does not fit it, an option names
            something that does not exist, or ``output`` exists already.
    """
    options = options or QuantizeOptions()
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    output = Path(output)
    require_writable(output, overwrite=options.overwrite)
    clock = _Clock()
    with PeakMemory() as peak:
        graph_model = prepare(file.proto, str(file.path))
        policy = POLICIES.get(options.policy)
        floats = _float_rules(graph_model.graph, file, options)
        splits = split_weights(
            graph_model,
            samples,
            options.split,
            policy=policy,
            floats=floats,
            spec=file.spec,
            half=options.rest == "fp16",
            progress=progress,
        )
        placement = policy.place(graph_model.graph, floats)
        _require_something(placement, file)
        clock.lap("prepare")
        statistics = _statistics(file, samples, graph_model, placement, options, progress)
        clock.lap("observe")
        scales = choose_scales(graph_model.graph, placement, statistics, policy, options)
        clock.lap("scales")
        description = _describe(file, graph_model.graph, placement, scales, statistics, options)
        insert(
            graph_model,
            placement,
            scales,
            integer_bias=policy.integer_bias,
            half=options.rest == "fp16",
            rounding=ROUNDINGS.get(options.rounding),
            weight_scales=splits.weight_scales,
        )
        description |= described(splits)
        description["respelled"] = policy.finish(graph_model.graph)
        proto = _finished_proto(graph_model, statistics, description, options)
        written = save_model(proto, output, overwrite=options.overwrite)
        clock.lap("write")
    report = {
        **description,
        "forward_seconds_per_sample": statistics.forward_seconds
        / max(len(statistics.sample_names), 1),
        "seconds": clock.laps | {"total": sum(clock.laps.values())},
        "peak_rss_mib": round(peak.mib, 1),
    }
    return QuantizeResult(written, report)


def choose_scales(
    graph: ir.Graph,
    placement: Placement,
    statistics: Statistics,
    policy: Policy,
    options: QuantizeOptions,
) -> dict[ir.Value, Scale]:
    """One scale for every group of tensors; the graph's inputs are never clipped.

    Large values of an input are signal, not outliers: a bright pixel, a far point.
    """
    inputs = derived_from_inputs_only(graph)
    scales: dict[ir.Value, Scale] = {}
    for group in placement.groups():
        method = SCALES.get("minmax" if any(v in inputs for v in group) else options.scales)
        seen = statistics.of(value.name or "" for value in group)
        bounds = method.range_of(seen, policy.form)
        scale = Scale.of(bounds, policy.form, half=options.rest == "fp16")
        scales.update(dict.fromkeys(group, scale))
    return scales


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = round(now - self._last, 3)
        self._last = now


def _float_rules(graph: ir.Graph, file: ModelFile, options: QuantizeOptions) -> FloatRules:
    declared = dict(file.spec.keep_float) if file.spec else {}
    rules = FloatRules(declared, options.keep_float, options.quantize_also)
    rules.check(node.name or "" for node in graph)
    return rules


def _require_something(placement: Placement, file: ModelFile) -> None:
    if not placement.weighted:
        first = next((item for item in placement.left if item.op_type in WEIGHTED), None)
        why = f": {first.node!r} {first.reason}" if first else ""
        raise UserError(
            f"nothing in {file.path} can be quantized{why}",
            fix="Keep fewer nodes in float with --keep-float",
        )


def _statistics(
    file: ModelFile,
    samples: Samples | Statistics,
    graph_model: ir.Model,
    placement: Placement,
    options: QuantizeOptions,
    progress: Progress | None,
) -> Statistics:
    needs_histogram = SCALES.get(options.scales).needs_histogram
    if not isinstance(samples, Statistics):
        require_samples(samples, options.min_samples)
        return observe_graph(
            graph_model.clone(),
            file,
            samples,
            _tensors_to_observe(graph_model.graph, placement),
            histograms=needs_histogram,
            progress=progress,
        )
    if samples.model_sha256 != file.sha256:
        raise UserError(
            f"the statistics are of another model ({samples.model_sha256[:12]}) than {file.path} "
            f"({file.sha256[:12]})",
            fix="Observe this model, or give the samples themselves",
        )
    if needs_histogram and not samples.has_histograms:
        raise UserError(
            f"--scales {options.scales} needs histograms, the statistics hold ranges only",
            fix="Observe with histograms=True, or choose --scales minmax",
        )
    return samples


def _tensors_to_observe(graph: ir.Graph, placement: Placement) -> list[str]:
    """What every policy wants, so that the result does not depend on whether a pass is shared.

    Observing a tensor keeps ONNX Runtime from fusing across it, which moves its neighbours' values
    by a rounding.
    """
    names = dict.fromkeys(all_tensors(graph))
    names.update(dict.fromkeys(value.name or "" for value in placement.tensors))
    return list(names)


def _describe(
    file: ModelFile,
    graph: ir.Graph,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    statistics: Statistics,
    options: QuantizeOptions,
) -> dict[str, Any]:
    """What the model file says about its quantization; nothing in it depends on time or machine."""
    chosen = {item.node for item in placement.weighted}
    left = {item.node for item in placement.left}
    total = Counter(node.op_type for node in graph)
    skipped = Counter(node.op_type for node in graph if node.name in left)
    steps = sorted(scale.scale for scale in scales.values())
    return {
        "schema": REPORT_SCHEMA,
        **options.recipe(),
        "source_sha256": file.sha256,
        "samples": {"count": len(statistics.sample_names), "sha256": statistics.samples_sha256},
        "quantized": dict(sorted(Counter(node.op_type for node in chosen).items())),
        "total": {op: total[op] for op in sorted(total) if op in WEIGHTED},
        "multiply_adds": {
            "quantized": sum(multiply_adds(node) for node in chosen),
            "total": sum(multiply_adds(node) for node in graph if node.op_type in WEIGHTED),
        },
        "activations": {
            "tensors": len(scales),
            "scales": len(placement.groups()),
            "smallest": steps[0],
            "median": float(np.median(steps)),
            "largest": steps[-1],
        },
        "float_operators": dict(sorted(skipped.items())),
        "skipped": [
            {"node": item.node, "op_type": item.op_type, "reason": item.reason}
            for item in placement.left
        ],
    }


def _finished_proto(
    model: ir.Model, statistics: Statistics, description: dict[str, Any], options: QuantizeOptions
) -> onnx.ModelProto:
    import onnx_ir as ir

    proto = ir.to_proto(model)
    if options.rest == "fp16":
        from calibration.casting import cast_proto

        largest = {n: max(-t.minimum, t.maximum) for n, t in statistics.tensors.items()}
        proto, report = cast_proto(proto, to="fp16", largest=largest)
        description["cast"] = report
    write_quantization(proto, description)
    return proto


def write_quantization(proto: onnx.ModelProto, description: Mapping[str, Any]) -> None:
    """Set ``edgeport.quantization``; all other metadata stays as it is."""
    key = PREFIX + "quantization"
    kept = [(p.key, p.value) for p in proto.metadata_props if p.key != key]
    del proto.metadata_props[:]
    for name, value in [*kept, (key, canonical_json(json.loads(json.dumps(description))))]:
        proto.metadata_props.add(key=name, value=value)
