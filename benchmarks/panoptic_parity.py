"""What INT8 costs a trained Panoptic-FlashOcc: mIoU, RayIoU and RayPQ at every stage.

    python -m benchmarks.panoptic_parity --frames 48               # goes on where it stopped
    python -m benchmarks.panoptic_parity --frames 400 --minutes 60 # until the time is up
    python -m benchmarks.panoptic_parity --frames 400 --int8-only  # without the PyTorch stage

Stages are eager PyTorch (the network as trained, instances by the numpy form), the FP32 model file,
and INT8 by ``--scales auto`` for ONNX Runtime and for TensorRT, whose Q/DQ ONNX Runtime emulates.
Every frame is one that nothing was trained or calibrated on, another street each, and all stages
see the same frames. Reference is the FP32 model file; a difference is stage minus FP32, with its
95 % interval over frames.

What was found of a frame is kept in ``--work``, so more frames add to those that were seen; the
JSON also says how many frames the planner wants for the losses that the goals name.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import QuantizeOptions, observe, quantize
from calibration.samples import open_samples
from calibration.samples.base import inputs_of
from calibration.samples.lazy import LazySamples
from deploy.metrics.gathering import Finding, Gathering
from deploy.metrics.planning import samples_for_mean
from deploy.metrics.pooled import PairedMetric
from deploy.sessions import open_session
from exporters import export
from exporters.files import sha256_file, write_bytes, write_text
from exporters.modelfile import ModelFile, ModelSpec
from runtimes import environment
from runtimes.base import TensorInfo

RESULTS = Path(__file__).parent / "results" / "panoptic_parity.json"
WORK = Path.home() / ".cache" / "edgeport" / "panoptic_parity"
VARIANT = "panoptic-flashocc-mini"
CALIBRATION, EVALUATION_SEED = "synthetic:16:1", 1000
POLICIES = ("onnxruntime", "tensorrt")
METRICS = "miou,rayiou,raypq"
GOALS = {"miou": 0.5, "raypq": 1.0}
PYTORCH = "pytorch"

Arrays = Mapping[str, NDArray[Any]]
Runner = Callable[[Arrays], Arrays]


def made_files(folder: Path, policies: list[str], keep_float: tuple[str, ...]) -> dict[str, Path]:
    """The model files by stage; taken as they are where an earlier run left them."""
    fp32 = folder / "fp32.onnx"
    model = ModelFile(fp32) if fp32.exists() else export(VARIANT, fp32).model
    files = {"fp32": fp32} | {f"int8-{p}": folder / f"int8-{p}.onnx" for p in policies}
    absent = [policy for policy in policies if not files[f"int8-{policy}"].exists()]
    if absent:
        samples = open_samples(CALIBRATION, model.require_spec())
        statistics = observe(model, samples)
        for policy in absent:
            options = QuantizeOptions(policy=policy, scales="auto", keep_float=keep_float)
            quantize(model, samples, files[f"int8-{policy}"], options, statistics=statistics)
    return files


def eager(spec: ModelSpec) -> Runner:
    """The trained network in PyTorch, on what a sample of the model file holds."""
    import torch

    from exporters.flashocc.camera_vectors import camera_vectors
    from exporters.flashocc.exporter import make_geometry
    from exporters.panoptic_flashocc.centres import (
        assign_instances,
        decode_centres,
        thing_channels,
    )
    from exporters.panoptic_flashocc.exporter import build_network, planes_of
    from exporters.panoptic_flashocc.options import PanopticOptions
    from exporters.panoptic_flashocc.weights import find_source

    options = PanopticOptions.parse({})
    source = find_source(spec.variant, options)
    config, rules = source.config, options.rules(source.config)
    geometry = make_geometry(config, options)
    network, _ = build_network(source, geometry)
    planes = planes_of(config, options)
    cameras = torch.from_numpy(camera_vectors(geometry.rig, config.view))
    channels = thing_channels(config.classes, rules.class_map)

    def run(sample: Arrays) -> Arrays:
        with torch.no_grad():
            bev = network.bev_map(planes(sample["images"]), *geometry.tensors, cameras=cameras)
            found = network.predict(bev, [])
        labels = found.logits.numpy().argmax(-1).astype(np.uint8)
        assert found.centres is not None  # every mini has a centre head
        reg, height, heatmap = (value.numpy() for value in found.centres)
        centres = decode_centres(reg, height, heatmap, config.grid, rules)
        ids = assign_instances(labels, centres, channels, rules.thing_voxels)
        return {"labels": labels, "instances": ids}

    return run


def seen_frames(
    files: Mapping[str, Path], arguments: argparse.Namespace
) -> dict[str, dict[str, Finding]]:
    """By frame and by stage what was found of it; new frames until the time is up."""
    kept = arguments.work / "frames"
    kept.mkdir(exist_ok=True)
    spec = ModelFile(files["fp32"]).require_spec()
    samples = open_samples(f"synthetic:{arguments.frames}:{EVALUATION_SEED}", spec)
    assert isinstance(samples, LazySamples)  # the generated world is made frame by frame
    until = time.monotonic() + 60 * arguments.minutes
    found: dict[str, dict[str, Finding]] = {}
    with ExitStack() as stack:
        sessions = {
            stage: stack.enter_context(open_session(path, threads=1))
            for stage, path in files.items()
        }
        reference = sessions.pop("fp32")
        runners: dict[str, Runner] = {stage: one.run for stage, one in sessions.items()}
        if not arguments.int8_only:
            runners[PYTORCH] = eager(spec)
        gathering = Gathering(spec, METRICS)
        gathering.declare_outputs(reference.outputs, reference.outputs)
        for index, name in enumerate(samples.names):
            path = kept / f"{name}.pickle"
            rows = pickle.loads(path.read_bytes()) if path.exists() else {}
            missing = [stage for stage in runners if stage not in rows]
            if missing and time.monotonic() < until:
                sample = samples.sample(index)
                feeds = inputs_of(sample)
                expected = reference.run(feeds)
                for stage in missing:
                    rows[stage] = gathering.judge(name, expected, runners[stage](feeds), sample)
                write_bytes(path, pickle.dumps(rows), overwrite=True)
                print(f"{index + 1} of {len(samples)} frames", flush=True)
            found[name] = rows
    return found


def compared(
    spec: ModelSpec, stage: str, frames: Mapping[str, Mapping[str, Finding]]
) -> dict[str, Any]:
    """The stage against FP32 over all frames in which it ran."""
    gathering = Gathering(spec, METRICS)
    ran = {name: rows[stage] for name, rows in frames.items() if stage in rows}
    outputs = [TensorInfo(output.name, output.dtype, output.shape) for output in spec.outputs]
    gathering.declare_outputs(outputs, outputs)
    for name, finding in ran.items():
        gathering.take(name, finding)
    metrics = {
        f"{metric.output} {metric.name}".strip(): entry(metric) for metric in gathering.paired()
    }
    return {"frames": len(ran), "metrics": metrics, "goals": judged(metrics)}


def entry(metric: PairedMetric) -> dict[str, Any]:
    interval = metric.interval
    row: dict[str, Any] = {"fp32": metric.reference, "stage": metric.candidate}
    if interval is None:
        return row | {"why_not": metric.why_not}
    row |= {"difference": interval.value, "low": interval.low, "high": interval.high}
    row |= {"deviation": interval.deviation, "detectable_loss": interval.detectable}
    return {key: _rounded(value) for key, value in row.items()}


def _rounded(value: float | None) -> float | None:
    """None too for what equal results leave unknown: JSON has no NaN."""
    return None if value is None or math.isnan(value) else round(value, 4)


def judged(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The losses that are allowed: shown by the whole interval, refuted, or undecided."""
    found = {}
    for name, allowed in GOALS.items():
        row = metrics[name]
        low, high, deviation = (row.get(key) for key in ("low", "high", "deviation"))
        if low is None or high is None:
            continue
        verdict = "met" if low > -allowed else "missed" if high < -allowed else "undecided"
        planned = samples_for_mean(deviation, allowed) if deviation else 2
        found[name] = {"allowed_loss": allowed, "verdict": verdict, "frames_planned": planned}
    return found


def show(results: Mapping[str, Any]) -> None:
    print(f"{'stage':<18}{'frames':>7}  {'metric':<8}{'FP32':>8}{'stage':>8}  difference")
    for stage, row in results["stages"].items():
        for name, one in row["metrics"].items():
            if name not in METRICS.split(","):
                continue
            span = f"{one.get('difference', 0):+.2f} [{one.get('low')}, {one.get('high')}]"
            goal = row["goals"].get(name, {})
            print(
                f"{stage:<18}{row['frames']:>7}  {name:<8}{one['fp32']:>8.2f}{one['stage']:>8.2f}  "
                f"{span} {goal.get('verdict', '')} {goal.get('frames_planned', '')}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no new frame after")
    parser.add_argument("--int8-only", action="store_true", help="leave PyTorch out of new frames")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--keep-float", nargs="*", default=[], help="nodes that stay in float")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    files = made_files(arguments.work, arguments.policies, tuple(arguments.keep_float))
    frames = seen_frames(files, arguments)
    spec = ModelFile(files["fp32"]).require_spec()
    stages = dict.fromkeys(stage for rows in frames.values() for stage in rows)
    results = {
        "date": datetime.date.today().isoformat(),
        "weights": str(spec.weights),
        "calibration": CALIBRATION,
        "evaluation": f"synthetic:{arguments.frames}:{EVALUATION_SEED}",
        "scales": "auto",
        "keep_float": arguments.keep_float,
        "files": {name: sha256_file(path) for name, path in files.items()},
        "machine": environment(1),
        "stages": {stage: compared(spec, stage, frames) for stage in sorted(stages)},
    }
    write_text(arguments.output, json.dumps(results, indent=2) + "\n", overwrite=True)
    show(results)


if __name__ == "__main__":
    main()
