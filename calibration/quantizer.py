"""Model file and samples in, INT8 model file out.

    prepare -> examine the samples -> (split) -> place -> observe -> scales
            -> insert Q/DQ -> (cast the rest) -> save

One pass over the samples whatever the method, none if statistics of an earlier pass are given;
``--split auto`` and ``--scales auto`` run a few samples once more to measure what they choose. The
output keeps names and self-description and says in ``edgeport.quantization`` what was done to it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.cfws.splitting import split_weights
from calibration.description import (
    describe,
    describe_correction,
    describe_methods,
    describe_rounding,
    describe_set,
    describe_splits,
    write_quantization,
)
from calibration.graph.hard_swish import drop_floors
from calibration.graph.queries import WEIGHTED
from calibration.job import Job, Progress
from calibration.observing.agreement import agreement
from calibration.observing.memory import PeakMemory
from calibration.observing.statistics import Statistics
from calibration.options import QuantizeOptions, QuantizeResult
from calibration.qdq.insertion import insert
from calibration.qdq.placement import Placement
from calibration.qdq.policies import POLICIES, all_tensors
from calibration.reporting.layers import layer_errors
from calibration.reporting.ranges import activation_ranges, weight_ranges
from calibration.rounding.adaround import require_torch
from calibration.rounding.grids import weight_grids
from calibration.rounding.refining import refine
from calibration.samples.base import Samples
from calibration.samples.rolling import rolled
from calibration.scales.decided import Decided
from calibration.scales.methods import SCALES
from calibration.scales.ranges import choose_scales, statistics_of
from exporters.errors import UserError
from exporters.files import require_writable
from exporters.modelfile import ModelFile, save_model

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def quantize(
    model: ModelFile | Path | str,
    samples: Samples | Statistics,
    output: Path | str,
    options: QuantizeOptions | None = None,
    *,
    statistics: Statistics | None = None,
    evaluation: Samples | None = None,
    measure_layers: bool = False,
    rewritten: Path | None = None,
    decided: Decided | None = None,
    progress: Progress | None = None,
) -> QuantizeResult:
    """Quantize ``model`` with ranges from ``samples`` and write ``output``.

    Args:
        samples: a calibration set, or what ``observe`` returned for this very model; without the
            samples nothing can be split or measured. A model with states runs through their
            sequences first (`calibration.samples.rolling`).
        statistics: what ``observe`` returned for this model and these samples: saves the pass,
            unless a layer is split.
        evaluation: what the result will be judged by; the calibration-set doctor compares the two.
        measure_layers: run a few samples once more for the error of every layer, beside that of a
            naive quantization: ``layers`` of the report and of the file.
        rewritten: where to write the float model as it is when Q/DQ are placed in it, channels
            equalized and convolutions split; replaced where it exists.
        decided: ranges and integers that were chosen for this model with less of it in float;
            nothing is chosen then.

    Raises:
        SamplesRefusedError: the calibration-set doctor finds an error that ``options.i_know`` does
            not name, or a sample does not fit the model.
        UserError: the model cannot be quantized, an option names something that does not exist, or
            ``output`` exists already.
    """
    options = options or QuantizeOptions()
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    if isinstance(samples, Statistics):
        job = Job(file, options, None, samples, progress, evaluation)
    else:
        job = Job(file, options, rolled(samples, file), statistics, progress, evaluation)
    job = replace(job, rewritten=rewritten, decided=decided)
    output = Path(output)
    require_writable(output, overwrite=options.overwrite)
    clock = _Clock()
    with PeakMemory() as peak:
        quantized, description, seen = _quantized(job, clock)
    if measure_layers:
        description["layers"] = layer_errors(job, quantized, seen)
        clock.lap("measure layers")
    with PeakMemory() as last_peak:
        proto = _finished_proto(job, quantized, seen, description)
        written = save_model(proto, output, overwrite=options.overwrite)
        clock.lap("write")
    report = {
        **description,
        "source_size_bytes": file.size_bytes,
        "size_bytes": written.size_bytes,
        "forward_seconds_per_sample": seen.forward_seconds / max(len(seen.sample_names), 1),
        "seconds": clock.laps | {"total": sum(clock.laps.values())},
        "peak_rss_mib": round(max(peak.mib, last_peak.mib), 1),
    }
    return QuantizeResult(written, report)


def _quantized(job: Job, clock: _Clock) -> tuple[ir.Model, dict[str, Any], Statistics]:
    """The INT8 model, what it will say of itself, and what was seen."""
    if job.options.rounding == "adaround":
        require_torch()
    model = job.prepared()
    job.check(model.graph, needs_histogram=SCALES.get(job.options.scales).needs_histogram)
    job.policy.require(model.graph, str(job.file.path))
    clock.lap("prepare")
    diagnosis = job.diagnosis(model.graph)
    clock.lap("examine")
    canonical = agreement(model, job.file, job.samples)
    clock.lap("prepare")
    whole = all_tensors(model.graph)
    splits = split_weights(job, model)
    if job.options.split != "none":
        clock.lap("split")
    if job.rewritten is not None:
        _write_float(job, model)
    placement = job.policy.place(model.graph, job.floats)
    _require_something(placement, job)
    seen = statistics_of(job, model, placement, split=bool(splits.splits), also=whole)
    clock.lap("observe")
    grids, learning = weight_grids(job, model, placement, seen, splits.weight_scales)
    if learning.layers:
        clock.lap("rounding")
    chosen = choose_scales(job, model, placement, seen, grids)
    scales, methods = chosen.scales, chosen.methods
    clock.lap("scales")
    description = describe(job, model.graph, placement, scales, seen)
    description |= describe_splits(splits) | describe_methods(chosen) | {"canonical": canonical}
    description["calibration_set"] = describe_set(diagnosis, placement, seen)
    refined = refine(job, model, placement, scales, grids, clock.lap)
    grids = refined.grids
    learning = refined.learning or learning
    description |= describe_rounding(learning) | describe_correction(refined.correction)
    description["activation_ranges"] = activation_ranges(
        job, model.graph, placement, scales, seen, methods
    )
    weights = [(item.node, item.weight) for item in placement.weighted]
    numbers = insert(
        model,
        placement,
        scales,
        integer_bias=job.policy.integer_bias,
        half=job.half,
        form=grids.form,
        weight_scales=grids.scales,
        rounded=grids.rounded,
    )
    description["weight_ranges"] = weight_ranges(
        (node, weight, made) for (node, weight), made in zip(weights, numbers, strict=True)
    )
    description["respelled"] = job.policy.finish(model.graph)
    return model, description, seen


def _write_float(job: Job, model: ir.Model) -> None:
    import onnx_ir as ir

    copy = model.clone()
    drop_floors(copy.graph)
    assert job.rewritten is not None  # asked by the caller
    save_model(ir.to_proto(copy), job.rewritten, overwrite=True)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = round(self.laps.get(phase, 0.0) + now - self._last, 3)
        self._last = now


def _require_something(placement: Placement, job: Job) -> None:
    if placement.weighted:
        return
    first = next((item for item in placement.left if item.op_type in WEIGHTED), None)
    why = f": {first.node!r} {first.reason}" if first else ""
    other = next(name for name in POLICIES if POLICIES.get(name) is not job.policy)
    fix = f"Choose --policy {other}, or cast the model instead: edgeport cast FILE --to fp16"
    if job.options.keep_float:
        fix = "Keep fewer nodes in float with --keep-float"
    raise UserError(f"nothing in {job.file.path} can be quantized{why}", fix=fix)


def _finished_proto(
    job: Job, model: ir.Model, seen: Statistics, description: dict[str, Any]
) -> onnx.ModelProto:
    import onnx_ir as ir

    proto = ir.to_proto(model)
    if job.half:
        from calibration.precision.casting import cast_proto

        largest = {n: max(-t.minimum, t.maximum) for n, t in seen.tensors.items()}
        proto, report = cast_proto(proto, to="fp16", largest=largest)
        description["cast"] = report
    write_quantization(proto, description)
    return proto
