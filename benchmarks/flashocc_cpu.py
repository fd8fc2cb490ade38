"""FP32 against INT8 of FlashOcc on this CPU, M0 and M1, one interleaved run each.

    python benchmarks/flashocc_cpu.py                    # both, about ten minutes on two cores
    python benchmarks/flashocc_cpu.py --variants flashocc-m0 --runs 20

Weights are seeded random ones: time and memory do not depend on them, agreement does, and is
printed as what it is. Predicted before the first run, from the arithmetic alone: INT8 with VNNI
does four times the products per instruction, and a quarter of a frame is not convolution, so about
2.5 to 3 times; pooling moves some 10 M floats, so about 1 % of a frame of 300 GFLOP.

Results go to ``benchmarks/results/flashocc_cpu.json``.
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

from calibration import QuantizeOptions, quantize
from calibration.samples import open_samples, write_samples
from calibration.samples.base import inputs_of
from deploy import verify
from exporters import export
from runtimes import BenchResult, Case, Plan, bench

RESULTS = Path(__file__).parent / "results" / "flashocc_cpu.json"
POOLING = "img_view_transformer/pooling"


def measure(variant: str, folder: Path, runs: int, calibration_count: int) -> dict[str, Any]:
    """Export, quantize, time and compare one variant."""
    fp32, int8 = folder / f"{variant}.onnx", folder / f"{variant}.int8.onnx"
    started = time.perf_counter()
    exported = export(variant, fp32)
    export_s = time.perf_counter() - started
    spec = exported.model.require_spec()

    evaluation = open_samples("synthetic:2:100", spec)
    feeds = [inputs_of(sample) for sample in evaluation]
    calibration = write_samples(  # on disk, or drawing the scenes would be timed too
        open_samples(f"synthetic:{calibration_count}:0", spec), folder / f"{variant}.samples"
    )
    before_s = forward_seconds(fp32, feeds[0])
    quantized = quantize(fp32, calibration, int8, QuantizeOptions(policy="onnxruntime"))
    forward_s = (before_s + forward_seconds(fp32, feeds[0])) / 2

    cases = [Case("fp32", fp32, feeds), Case("int8", int8, feeds)]
    timed = bench(cases, Plan(warmup=2, min_runs=runs, min_seconds=0.0))
    agreement = verify(fp32, int8, evaluation)
    return {
        "date": datetime.date.today().isoformat(),
        "weights": str(spec.weights),
        "export_s": round(export_s, 1),
        "export_agreement": exported.report["agreement"],
        "quantization": _quantization(quantized.report, calibration_count, forward_s),
        "bench": _short(timed),
        "pooling_share": {
            "fp32": pooling_share(fp32, feeds[0]),
            "int8": pooling_share(int8, feeds[0]),
        },
        "label_agreement": agreement.to_json()["summary"],
    }


def forward_seconds(model: Path, feeds: dict[str, Any], runs: int = 5) -> float:
    """Median time of a plain forward pass, in this process."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[runs // 2]


def _quantization(report: Any, count: int, forward_s: float) -> dict[str, Any]:
    """Wall time per sample against plain forward passes right before and after."""
    per_sample = report["seconds"]["total"] / count
    return {
        "samples": count,
        "seconds": report["seconds"],
        "forward_s": round(forward_s, 3),
        "forward_passes_per_sample": round(per_sample / forward_s, 2),
        "peak_rss_mib": report["peak_rss_mib"],
    }


def _short(result: BenchResult) -> dict[str, Any]:
    """The result without each single latency."""
    data = result.to_json()
    for case in data["cases"]:
        del case["latencies_ms"]
    return data


def pooling_share(model: Path, feeds: dict[str, Any], runs: int = 5) -> float:
    """Share of a frame that ONNX Runtime spends in BEV pooling, from its own profiler."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[bool, int] = defaultdict(int)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["name"].startswith(POOLING)] += event["dur"]
    return round(spent[True] / (spent[True] + spent[False]), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["flashocc-m0", "flashocc-m1"])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--samples", type=int, default=16, help="calibration samples")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    results: dict[str, Any] = {"variants": {}}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())  # variants not measured now stay
    with tempfile.TemporaryDirectory() as folder:
        for variant in arguments.variants:
            measured = measure(variant, Path(folder), arguments.runs, arguments.samples)
            results["variants"][variant] = measured
            print(variant, json.dumps(measured, indent=2))
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
