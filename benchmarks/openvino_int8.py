"""The same INT8 file of FlashOcc M0 in ONNX Runtime and in OpenVINO, in turns, on this CPU.

    python benchmarks/openvino_int8.py                   # about five minutes on two cores

Both policies are timed: ``onnxruntime`` puts Q/DQ where ONNX Runtime's integer kernels take it,
``tensorrt`` where TensorRT fuses. Predicted: OpenVINO compiles each network into one plan for this
CPU and keeps INT8 between layers, so 1.2 times as fast on either file, and more on the one for
TensorRT, whose unquantized residual branches ONNX Runtime runs in float. Weights are seeded random
ones: time does not depend on them.

Results go to ``benchmarks/results/openvino_int8.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from calibration import QuantizeOptions, quantize
from calibration.samples import open_samples, write_samples
from calibration.samples.base import inputs_of
from deploy import verify
from exporters import export
from runtimes import Case, Plan, bench

RESULTS = Path(__file__).parent / "results" / "openvino_int8.json"
RUNTIMES = ("onnxruntime", "openvino")
POLICIES = ("onnxruntime", "tensorrt")


def measure(folder: Path, runs: int) -> dict[str, Any]:
    """Export M0, quantize it once a policy, time the four cases in one interleaved run."""
    fp32 = folder / "fp32.onnx"
    spec = export("flashocc-m0", fp32).model.require_spec()
    evaluation = open_samples("synthetic:2:100", spec)
    calibration = write_samples(open_samples("synthetic:8:0", spec), folder / "calibration")
    feeds = [inputs_of(sample) for sample in evaluation]
    cases, agreement = [], {}
    for policy in POLICIES:
        int8 = folder / f"{policy}.onnx"
        quantize(fp32, calibration, int8, QuantizeOptions(policy=policy))
        agreement[policy] = verify(fp32, int8, evaluation).to_json()["summary"]
        cases += [Case(f"{policy} in {name}", int8, feeds, runtime=name) for name in RUNTIMES]
    cases.append(Case("fp32 in openvino", fp32, feeds, runtime="openvino"))
    timed = bench(cases, Plan(warmup=2, min_runs=runs, min_seconds=0.0)).to_json()
    for case in timed["cases"]:
        del case["latencies_ms"]
    return {"date": datetime.date.today().isoformat(), "bench": timed, "agreement": agreement}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), arguments.runs)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
