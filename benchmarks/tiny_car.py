"""A small trained car detector in symmetric INT8, as TensorRT wants it: ours and the peers'.

    EDGEPORT_DATA=... python -m benchmarks.tiny_car            # the peers must be installed

The network makes a height histogram of a LiDAR scan, whose counts fall with the square of the
distance: its first layers see values from 1 to 100 in one tensor, most of them 0. One scale for
all of that is what breaks naive symmetric INT8.

Nine KITTI frames in two halves: calibrated (and, for ``--budget``, judged) on one, scored on the
other, both ways round, and summed. FP32's boxes above a score are what is to be found again at BEV
IoU 0.5; boxes that FP32 does not have are extra. ``flicker`` counts of both those whose other side
is only below the threshold, by up to 0.1: right boxes that a threshold tells apart.

TensorRT-RTX refuses the fixture's own ScatterElements with a reduction, in FP32 too; its verdict is
asked for what follows the histogram.

To reach: 95 % matched, at most 5 % extra. Results go to ``benchmarks/results/tiny_car.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.peers import PeerResult, run_edgeport, run_peer
from benchmarks.peers.judging import int8_coverage, tensorrt_verdict
from benchmarks.pillarhist_boxes import Agreement, Array, boxes, compare
from calibration.samples import inputs_of, open_samples, write_samples
from calibration.samples.sets import spec_for
from runtimes import environment, get

RESULTS = Path(__file__).parent / "results" / "tiny_car.json"
FIXTURE = "fixtures/pillarhist_tiny_car.onnx"
THRESHOLDS = (0.2, 0.3, 0.4)
FLICKER = 0.1

PEERS = (
    "ort:tensorrt",
    "modelopt:max",
    "modelopt:entropy",
    "nncf:performance",
    "nncf:bias_correction",
    "espppq:tensorrt",
    "ort:minmax",
    "nncf:mixed",
)  # the last two are asymmetric: for comparison, TensorRT takes neither
SMALL = ("--min-samples", "4", "--i-know", "all")
OURS = {
    f"edgeport {scales}": ("--scales", scales) for scales in ("minmax", "mse", "percentile", "auto")
}
BUDGETS = tuple((scales, bound) for scales in ("auto", "percentile") for bound in (0.85, 0.9, 0.92))
HISTOGRAM = "/h/Concat_output_0"

Outputs = dict[str, Array]
Quantizer = Callable[[Path, Path], PeerResult]
"""``quantizer(calibration, output)``."""


def halves(data: Path, folder: Path) -> list[Path]:
    """Even and odd frames as sample folders."""
    source = open_samples(data / "kitti", spec_for(data / FIXTURE))
    chosen = [range(start, len(source), 2) for start in (0, 1)]
    return [
        write_samples(source.subset(indices), folder / f"half-{number}")
        and folder / f"half-{number}"
        for number, indices in enumerate(chosen)
    ]


def outputs_of(model: Path, samples: Path) -> list[Outputs]:
    """All outputs for every sample, on ONNX Runtime."""
    session = get("onnxruntime").load(model, threads=2)
    try:
        return [session.run(inputs_of(sample)) for sample in open_samples(samples)]
    finally:
        session.close()


def agreement(
    reference: Sequence[Outputs], candidate: Sequence[Outputs], threshold: float
) -> tuple[Agreement, Agreement]:
    """At one threshold, plainly and with flicker forgiven."""
    plain = forgiving = Agreement(0, 0, 0)
    for mine, theirs in zip(reference, candidate, strict=True):
        wanted, found = boxes(mine, threshold), boxes(theirs, threshold)
        plain += compare(wanted, found)
        matched = compare(wanted, boxes(theirs, threshold - FLICKER)).matched
        extra = compare(boxes(mine, threshold - FLICKER), found).extra
        forgiving += Agreement(matched, len(wanted), extra)
    return plain, forgiving


def verdict_after_histogram(path: Path, folder: Path) -> dict[str, Any]:
    part = folder / "network.onnx"
    try:
        onnx.utils.extract_model(path, part, [HISTOGRAM], ["heatmap", "box"], check_model=False)
    except ValueError as error:
        return {"parsed": None, "built": None, "reason": f"no part to ask about: {error}"[:200]}
    return tensorrt_verdict(part)


def score_error(reference: Sequence[Outputs], candidate: Sequence[Outputs]) -> float:
    """RMS error of the score's logit over the cells where FP32 gives 0.05 or more."""
    errors = []
    for mine, theirs in zip(reference, candidate, strict=True):
        cells = mine["heatmap"] >= 0.05
        errors.append(logit(theirs["heatmap"][cells]) - logit(mine["heatmap"][cells]))
    return round(float(np.sqrt(np.mean(np.concatenate(errors) ** 2))), 3)


def logit(score: Array) -> Array:
    p = np.clip(score.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def measure(name: str, quantize: Quantizer, model: Path, sets: list[Path]) -> dict[str, Any]:
    """One row: both ways round, summed."""
    reference: list[Outputs] = []
    candidate: list[Outputs] = []
    row: dict[str, Any] = {"name": name, "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        for number, (calibration, held_out) in enumerate((sets, sets[::-1])):
            output = Path(folder) / f"{number}.onnx"
            result = quantize(calibration, output)
            row["runs"].append(result.to_json())
            if result.output is None:
                return row | {"error": result.error}
            reference += outputs_of(model, held_out)
            candidate += outputs_of(output, held_out)
        row["int8_layers"] = str(int8_coverage(onnx.load(output)))
        row["tensorrt_after_histogram"] = verdict_after_histogram(output, Path(folder))
    for threshold in THRESHOLDS:
        plain, forgiving = agreement(reference, candidate, threshold)
        row[f"score>={threshold}"] = {
            "fp32_boxes": plain.reference,
            "matched": plain.matched,
            "extra": plain.extra,
            "matched_but_for_flicker": forgiving.matched,
            "extra_but_for_flicker": forgiving.extra,
        }
    return row | {"score_logit_rms": score_error(reference, candidate)}


def rows(model: Path) -> dict[str, Quantizer]:
    """Every quantizer of the table by name."""

    def peer(name: str) -> Quantizer:
        return lambda samples, output: run_peer(name, model, samples, output)

    def ours(*options: str) -> Quantizer:
        return lambda samples, output: run_edgeport(
            model, samples, output, "--policy", "tensorrt", *SMALL, *options
        )

    def budget(scales: str, bound: float) -> Quantizer:
        return lambda samples, output: run_edgeport(
            model,
            samples,
            output,
            *("--policy", "tensorrt", "--scales", scales, "--cost", "work"),
            *("--validate", str(samples)),
            *("--budget", f"metric>={bound}", "--metric", "benchmarks.pillarhist_boxes:closeness"),
            *SMALL,
        )

    table = {name: peer(name) for name in PEERS}
    table |= {name: ours(*options) for name, options in OURS.items()}
    budgets = {f"edgeport {s}, closeness >= {b}": budget(s, b) for s, b in BUDGETS}
    return table | budgets


def show(row: dict[str, Any]) -> None:
    if "error" in row:
        print(f"{row['name']:<36} {row['error']}")
        return
    cells = []
    for threshold in THRESHOLDS:
        cell = row[f"score>={threshold}"]
        cells.append(
            f"{cell['matched']}/{cell['fp32_boxes']} +{cell['extra']} "
            f"({cell['matched_but_for_flicker']} +{cell['extra_but_for_flicker']})"
        )
    built = row["tensorrt_after_histogram"]["built"]
    print(
        f"{row['name']:<36}"
        + "".join(f"{cell:>20}" for cell in cells)
        + f"{row['score_logit_rms']:>8} {row['int8_layers']:>8} {'built' if built else 'no'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", help="names of rows; the others stay as they are")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    data = Path(os.environ["EDGEPORT_DATA"])
    model = data / FIXTURE
    known: dict[str, Any] = {}
    if arguments.output.exists():
        known = {row["name"]: row for row in json.loads(arguments.output.read_text())["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        sets = halves(data, Path(folder))
        for name, quantizer in rows(model).items():
            if not arguments.only or name in arguments.only:
                known[name] = measure(name, quantizer, model, sets)
            if name in known:
                show(known[name])
    results = {
        "date": datetime.date.today().isoformat(),
        "environment": environment(2),
        "data": {"model": FIXTURE, "frames": 9, "thresholds": THRESHOLDS, "flicker": FLICKER},
        "rows": list(known.values()),
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
