"""Full-size networks against PyTorch, engines that TensorRT-RTX builds, and what instances cost.

    python -m benchmarks.panoptic_flashocc --variant flashocc-m3 --precision fp32
    python -m benchmarks.panoptic_flashocc --variant panoptic-flashocc-8f-pano --precision int8
    python -m benchmarks.panoptic_flashocc --variant panoptic-flashocc-tiny-pano --share

Every export is compared with eager PyTorch at full size before it is written; what the comparison
said is kept. Weights are seeded random ones: build time, size and the share of a frame do not
depend on them (random heatmaps have as many centres as a busy street), nor on how ranges are
chosen, so INT8 has those of one pass. An engine that was built has not been run. Networks with a
memory are calibrated on a drive that the float model runs through.

The share is ONNX Runtime's own profile: kernel time of the nodes below ``panoptic`` (centres and
assignment) and ``memory`` (warping past maps), divided by that of all nodes, one thread.

Results go to ``benchmarks/results/panoptic_flashocc.json``; what is not measured now stays.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from calibration import QuantizeOptions, cast, quantize
from calibration.samples import open_samples
from calibration.samples.base import Samples, inputs_of
from calibration.samples.rolling import rolled
from exporters import export
from exporters.files import write_text
from exporters.modelfile import ModelFile
from runtimes import build, environment

RESULTS = Path(__file__).parent / "results" / "panoptic_flashocc.json"
PARTS = ("panoptic", "memory")


def exported(variant: str, folder: Path, entry: dict[str, Any]) -> ModelFile:
    """The FP32 model file; taken as it is where an earlier run left it.

    Args:
        entry: of the results; gets what the export says of itself.
    """
    path = folder / f"{variant}.onnx"
    if path.exists():
        return ModelFile(path)
    made = export(variant, path)
    entry["weights"] = str(made.report["weights"])
    entry["export"] = {
        "date": datetime.date.today().isoformat(),
        "parameters": made.report["parameters"],
        "agreement": made.report["agreement"],
        "seconds": made.report["seconds"],
        "model_mib": round(made.model.size_bytes / 2**20, 1),
        "machine": environment(),
    }
    return made.model


def samples_of(model: ModelFile, count: int) -> Samples:
    """One generated drive, states filled in by the model itself."""
    return rolled(open_samples(f"synthetic:1x{count}", model.require_spec()), model)


def in_precision(model: ModelFile, precision: str, folder: Path, count: int) -> Path:
    """The model file whose engine is asked for."""
    output = folder / f"{model.path.stem}.{precision}.onnx"
    if precision == "fp32" or output.exists():
        return model.path if precision == "fp32" else output
    if precision == "fp16":
        cast(model, output, overwrite=True)
    else:
        options = QuantizeOptions(
            scales="percentile", correct_bias=False, rest="fp16", overwrite=True
        )
        quantize(model, samples_of(model, count), output, options)
    return output


def built(path: Path, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    engine = build(path, folder / f"{path.stem}.engine")
    passport = engine.passport
    return {
        "date": datetime.date.today().isoformat(),
        "builder": f"{passport.runtime} {passport.runtime_version}",
        "evidence": passport.evidence.value,
        "build_s": round(passport.build_s, 1),
        "with_process_s": round(time.perf_counter() - started, 1),
        "engine_mib": round(passport.size_bytes / 2**20, 1),
        "model_mib": round(ModelFile(path).size_bytes / 2**20, 1),
        "log": dict(passport.log),
    }


def shares(model: ModelFile, runs: int) -> dict[str, Any]:
    """Kernel time of each of ``PARTS`` as a share of the frame, and in milliseconds."""
    import onnxruntime as ort

    feeds = inputs_of(next(iter(samples_of(model, 1))))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
        outputs = [session.run(None, dict(feeds)) for _ in range(runs)]
        events = json.loads(Path(session.end_profiling()).read_text())
    named = dict(zip([port.name for port in session.get_outputs()], outputs[0], strict=True))
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            part = event["name"].split("/")[0]
            spent[part if part in PARTS else "network"] += event["dur"] / 1000 / runs
    total = sum(spent.values())
    return {
        "date": datetime.date.today().isoformat(),
        "runs": runs,
        "threads": 1,
        "frame_ms": round(total, 1),
        "part_ms": {part: round(value, 2) for part, value in sorted(spent.items())},
        "share": {part: round(value / total, 5) for part, value in sorted(spent.items())},
        "instances": int(named["instances"].max()),
        "voxels_with_instance": int((named["instances"] > 0).sum()),
        "machine": environment(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", required=True)
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], help="build an engine")
    parser.add_argument("--share", action="store_true", help="profile one frame")
    parser.add_argument("--samples", type=int, default=2, help="calibration frames")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", type=Path, help="folder that keeps model files between runs")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    asked = parser.parse_args()

    results: dict[str, Any] = {}
    if asked.output.exists():
        results = json.loads(asked.output.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.models or Path(scratch)
        entry = results.setdefault(asked.variant, {})
        model = exported(asked.variant, folder, entry)
        _write(results, asked.output)  # what follows takes minutes of its own
        if asked.precision:
            path = in_precision(model, asked.precision, folder, asked.samples)
            found = built(path, Path(scratch))
            entry.setdefault("engines", {})[asked.precision] = found
            print(json.dumps(found, indent=2))
        if asked.share:
            entry["cpu"] = shares(model, asked.runs)
            print(json.dumps(entry["cpu"], indent=2))
        _write(results, asked.output)


def _write(results: dict[str, Any], output: Path) -> None:
    write_text(output, json.dumps(results, indent=2) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
