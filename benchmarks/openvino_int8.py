"""The same INT8 file of FlashOcc M0 in ONNX Runtime and in OpenVINO, in turns, on this CPU.

    python benchmarks/openvino_int8.py                   # about five minutes on two cores

Both policies are timed: ``onnxruntime`` puts Q/DQ where ONNX Runtime's integer kernels take it,
``tensorrt`` where TensorRT fuses. Predicted: OpenVINO compiles each network into one plan for this
CPU and keeps INT8 between layers, so 1.2 times as fast on either file, and more on the one for
TensorRT, whose unquantized residual branches ONNX Runtime runs in float. Weights are seeded random
ones and ranges plain minima and maxima: time does not depend on either. Ratios are of runs in the
same round, each to the same file in ONNX Runtime; one thread each, so that a busy machine's other
work does not decide.

Results go to ``benchmarks/results/openvino_int8.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration import QuantizeOptions, quantize
from calibration.samples import open_samples, write_samples
from calibration.samples.base import inputs_of
from exporters import export
from exporters.modelfile import ModelFile
from runtimes import Case, Plan, bench, registry
from runtimes.base import Feeds
from runtimes.timing import paired_ratio

RESULTS = Path(__file__).parent / "results" / "openvino_int8.json"
RUNTIMES = ("onnxruntime", "openvino")
POLICIES = ("onnxruntime", "tensorrt")


def measure(folder: Path, runs: int, threads: int) -> dict[str, Any]:
    """Export M0, quantize it once a policy, time the four cases in one interleaved run."""
    fp32 = folder / "fp32.onnx"
    if not fp32.exists():
        export("flashocc-m0", fp32)
    spec = ModelFile(fp32).require_spec()
    feeds = [inputs_of(sample) for sample in open_samples("synthetic:2:100", spec)]
    files = {policy: folder / f"{policy}.onnx" for policy in POLICIES}
    for policy in (name for name, file in files.items() if not file.exists()):
        calibration = write_samples(open_samples("synthetic:2:0", spec), folder / policy)
        options = QuantizeOptions(policy=policy, scales="minmax", correct_bias=False)
        quantize(fp32, calibration, files[policy], options)
    cases = [
        Case(f"{name} in {runtime}", file, feeds, runtime, threads)
        for name, file in files.items()
        for runtime in RUNTIMES
    ]
    timed = bench(cases, Plan(warmup=1, min_runs=runs, min_seconds=0.0, max_runs=runs)).to_json()
    latencies = {case["name"]: case.pop("latencies_ms") for case in timed["cases"]}
    gains = {}
    for name in files:
        gain = paired_ratio(*(latencies[f"{name} in {runtime}"] for runtime in RUNTIMES))
        gains[name] = gain and {"value": gain.value, "low": gain.low, "high": gain.high}
    return {
        "date": datetime.date.today().isoformat(),
        "times_as_fast_in_openvino": gains,
        "scales": {name: scales_of(file) for name, file in files.items()},
        "equal_labels": {name: equal_labels(file, feeds) for name, file in files.items()},
        "bench": timed,
    }


def scales_of(file: Path) -> str:
    """How the ranges of a kept file were chosen; speed does not depend on it."""
    return str((ModelFile(file).quantization or {}).get("scales"))


def equal_labels(file: Path, feeds: Sequence[Feeds]) -> float:
    """Share of voxels to which both runtimes give the same class."""
    answers = []
    for runtime in RUNTIMES:
        session = registry.get(runtime).load(file)
        answers.append(np.stack([session.run(feed)["labels"] for feed in feeds]))
        session.close()
    return float((answers[0] == answers[1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--models", type=Path, help="folder that keeps the model files")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.models or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        measured = measure(folder, arguments.runs, arguments.threads)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
