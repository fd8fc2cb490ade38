"""FlashOcc, trained and in parts: what each quantizer loses, how fast its file is, what it took.

    python -m benchmarks.flashocc_peers                          # everything: about an hour
    python -m benchmarks.flashocc_peers --parts bev --tools ort:minmax edgeport
    python -m benchmarks.flashocc_peers --parts bev --tools none --time   # speeds of all files
    python -m benchmarks.flashocc_peers --calibrations 5   # what a pass takes, five times in turns

`benchmarks.flashocc_parts` makes the networks and the samples; `benchmarks.peers` runs every other
tool in its own environment. All get the same FP32 file and the same samples. Rows are added to the
results one by one, so the work can be done in slices; files are kept in ``--work``.

Loss: signal-to-noise ratio of every output over the held-out samples, in dB, the files run by ONNX
Runtime, and the share of equal arg-maxima (voxels, depth bins). Time and memory: of the whole
process, imports included. Speed: FP32's latency over the file's, paired in interleaved rounds.

Results go to ``benchmarks/results/flashocc_peers.json``; what calibrations took in turns stands
there below the processor's name.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.flashocc_parts import NAMES, Part, make_parts
from benchmarks.peers import PeerResult, run_edgeport, run_peer
from benchmarks.peers.judging import int8_coverage, speeds
from exporters.errors import EdgeportError
from runtimes import Plan, environment

Array = NDArray[Any]

RESULTS = Path(__file__).parent / "results" / "flashocc_peers.json"

PLAIN = ("--rounding", "nearest", "--no-correct-bias")
OURS = {
    "edgeport": (),
    "edgeport:equalize": ("--equalize",),
    "edgeport:minmax": ("--scales", "minmax", *PLAIN),
    "edgeport:mse": ("--scales", "mse", *PLAIN),
    "edgeport:kl-r": ("--scales", "kl-r", *PLAIN),
}
"""The plain rows take one pass over the samples, as ONNX Runtime's do; others run some twice."""

ONE_PASS = ("ort:minmax", "edgeport:minmax", "edgeport:kl-r", "edgeport:mse")

OURS_TENSORRT = {"edgeport:tensorrt": ()}
PEERS = (
    "ort:minmax",
    "ort:percentile",
    "ort:entropy",
    "ort:tensorrt",
    "aimet:ptq",
    "aimet:cle",
    "nncf:performance",
    "nncf:mixed",
    "quark:u8s8",
    "modelopt:entropy",
    "modelopt:max",
)
TOOLS = (*OURS, *OURS_TENSORRT, *PEERS)
CLASS_AXIS = {"image": 1, "bev": 1, "m0": 1, "mini": 1}
"""Of the first output of each part."""


def quantized(part: Part, tool: str, folder: Path) -> PeerResult:
    """Run ``tool`` on ``part``; the file is named after both."""
    output = folder / f"{part.name}.{tool.replace(':', '-')}.onnx"
    output.unlink(missing_ok=True)
    if tool in OURS:
        words = ("--policy", "onnxruntime", *OURS[tool])
        return run_edgeport(part.model, part.calibration, output, *words, name=tool)
    if tool in OURS_TENSORRT:
        words = ("--policy", "tensorrt", *OURS_TENSORRT[tool])
        return run_edgeport(part.model, part.calibration, output, *words, name=tool)
    return run_peer(tool, part.model, part.calibration, output)


class Judge:
    """Compares files with the FP32 file of one part, on its held-out samples."""

    def __init__(self, part: Part) -> None:
        self.feeds = part.feeds()
        self.axis = CLASS_AXIS[part.name]
        self.true = _outputs(part.model, self.feeds)

    def loss(self, candidate: Path) -> dict[str, Any]:
        found = _outputs(candidate, self.feeds)
        equal = [
            np.mean(true[0].argmax(self.axis) == other[0].argmax(self.axis))
            for true, other in zip(self.true, found, strict=True)
        ]
        pairs = zip(self._by_output(self.true), self._by_output(found), strict=True)
        ratios = [_sqnr_db(true, other) for true, other in pairs]
        return {
            "sqnr_db": [round(value, 2) for value in ratios],
            "agreement": round(float(np.mean(equal)), 4),
        }

    @staticmethod
    def _by_output(runs: list[list[Array]]) -> list[tuple[Array, ...]]:
        return list(zip(*runs, strict=True))


def _sqnr_db(true: tuple[Array, ...], found: tuple[Array, ...]) -> float:
    """Over all samples of one output together."""
    signal = sum(float(np.sum(np.square(t, dtype=np.float64))) for t in true)
    noise = sum(
        float(np.sum(np.square(t.astype(np.float64) - f))) for t, f in zip(true, found, strict=True)
    )
    return float(10 * np.log10(signal / max(noise, 1e-300)))


def _outputs(model: Path, feeds: list[dict[str, Array]]) -> list[list[Array]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, feed) for feed in feeds]


def measured(part: Part, tool: str, folder: Path, judge: Judge) -> dict[str, Any]:
    """One row: what it took, and what it lost."""
    try:
        result = quantized(part, tool, folder)
    except EdgeportError as error:
        return {"name": tool, "error": str(error)}
    row = result.to_json()
    row["date"] = datetime.date.today().isoformat()
    row["load"] = round(os.getloadavg()[0], 1)
    if result.output is not None:
        row["int8_layers"] = str(int8_coverage(onnx.load(result.output)))
        try:
            row |= judge.loss(result.output)
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            row["error"] = f"ONNX Runtime cannot run it: {str(error).splitlines()[0]}"
    return row


def timed(part: Part, folder: Path, rows: dict[str, Any], runs: int) -> None:
    """Add the speed of all files of ``part`` to their rows, from one interleaved run."""
    files = {
        tool: path
        for tool in TOOLS
        if (path := folder / f"{part.name}.{tool.replace(':', '-')}.onnx").is_file()
        and "sqnr_db" in rows.get(tool, {})
    }
    plan = Plan(warmup=2, min_runs=runs, min_seconds=0.0)
    told = speeds(part.model, files, part.feeds()[:2], plan)["cases"]
    for tool in files:
        rows[tool] |= {key: told[tool][key] for key in ("speed", "error") if key in told[tool]}


def calibrations(part: Part, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds and peak memory of minmax and of our single passes, all in turns."""
    took: dict[str, Any] = {tool: {"wall_s": [], "peak_rss_gib": []} for tool in ONE_PASS}
    for _ in range(rounds):
        for tool, rows in took.items():
            row = quantized(part, tool, folder).to_json()
            for key, values in rows.items():
                values.append(row[key])
    base = took[ONE_PASS[0]]
    for tool, rows in took.items():
        times = [a / b for a, b in zip(rows["wall_s"], base["wall_s"], strict=True)]
        memory = max(rows["peak_rss_gib"]) / max(base["peak_rss_gib"])
        rows["times_minmax"] = {"wall": round(median(times), 2), "peak": round(memory, 2)}
        print(part.name, tool, rows["times_minmax"], rows["wall_s"], flush=True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=NAMES)
    parser.add_argument("--tools", nargs="+", default=TOOLS, help=f"of {', '.join(TOOLS)}; none")
    parser.add_argument("--calibrations", type=int, metavar="N", help="take turns N times, no more")
    parser.add_argument("--time", action="store_true", help="measure the speed of all files")
    parser.add_argument("--runs", type=int, default=20, help="rounds of timing")
    parser.add_argument("--samples", type=int, default=8, help="calibration and held-out samples")
    parser.add_argument("--work", type=Path, default=Path("flashocc-peers"))
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    results: dict[str, Any] = {"samples": arguments.samples, "parts": {}}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())  # rows not measured now stay
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part in make_parts(arguments.work / "parts", samples=arguments.samples):
        if part.name not in arguments.parts:
            continue
        if arguments.calibrations:
            mine = results.setdefault("calibrations", {}).setdefault(environment()["cpu"], {})
            mine["machine"], mine["date"] = environment(), datetime.date.today().isoformat()
            mine[part.name] = calibrations(part, arguments.work, arguments.calibrations)
            _save(results, arguments.output)
            continue
        rows = results["parts"].setdefault(part.name, {})
        results["machine"] = environment()
        tools = [tool for tool in arguments.tools if tool != "none"]
        judge = Judge(part) if tools else None
        for tool in tools:
            assert judge is not None  # there are tools
            rows[tool] = measured(part, tool, arguments.work, judge)
            print(part.name, json.dumps(rows[tool]), flush=True)
            _save(results, arguments.output)
        if arguments.time:
            timed(part, arguments.work, rows, arguments.runs)
            _save(results, arguments.output)
            print(part.name, {tool: rows[tool].get("speed") for tool in rows})


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
