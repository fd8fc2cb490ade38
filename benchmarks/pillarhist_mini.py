"""PillarHist against PointPillars' encoder at equal training, in FP32 and in INT8.

    python -m benchmarks.pillarhist_mini --work DIR              # half an hour on two cores
    EDGEPORT_DATA=... python -m benchmarks.pillarhist_mini --work DIR     # and real frames

``pillarhist-mini`` and ``pointpillars-mini`` are judged by KITTI's rules on 200 generated frames
(50 drives of a seed that nobody trained on), INT8 is calibrated on 64 of another one. ``INT8`` is
what ``edgeport quantize`` makes by default, which leaves the point network of PointPillars in
float; ``encoder too`` quantizes it as well. Rows with a bound come from ``--budget``, which finds
what stays float on validation frames: 64 generated ones of a third seed, or, ``on real frames``,
those of KITTI's testing folder and nuScenes. All but the rows of ONNX Runtime are by TensorRT's
policy. The guess puts boxes of middle size where things stood most often in the frames of
calibration.

INT8 is also asked for the boxes that FP32 finds (same class, BEV IoU 0.7), on generated and on real
frames of KITTI and nuScenes; and FP32 for KITTI's labelled cars (BEV IoU 0.5).

Predicted before measuring: INT8 within 0.5 AP of FP32 for PillarHist; several AP lost with the
point network quantized, whose one scale spans 51 m and centimetres; FP32 twins within 3 AP of each
other, either way. Results go to ``benchmarks/results/pillarhist_mini.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from calibration import QuantizeOptions, QuantizeResult, quantize
from calibration.samples import inputs_of, open_samples, write_samples
from calibration.samples.base import InMemorySamples, Samples, Source, labels_of
from calibration.samples.kitti_writing import kitti_drives, write_kitti
from deploy import verify
from deploy.budgeting import SearchOptions, quantize_to_budget
from deploy.comparison import Comparison
from deploy.metrics.boxes.again import found_again
from deploy.metrics.boxes.from_samples import FoundBoxes, kitti_found, kitti_truth
from deploy.metrics.boxes.kitti_ap import KittiAP
from deploy.metrics.boxes.kitti_matching import LEAST_OVERLAP
from exporters import export
from exporters.files import write_text
from exporters.modelfile import ModelFile, ModelSpec
from exporters.pillarhist import prepare
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "pillarhist_mini.json"
VARIANTS = ("pillarhist-mini", "pointpillars-mini")
SETS = {"calibration": (16, 4, 9200), "validation": (16, 4, 9300), "held-out": (50, 4, 9100)}
"""Drives, frames of each, seed."""


class Way(NamedTuple):
    """One way to quantize.

    Attributes:
        budget: what has to hold on validation frames; empty where everything is quantized.
        real: validated on real frames.
    """

    options: QuantizeOptions
    budget: str = ""
    real: bool = False


INT8 = {
    "INT8": Way(QuantizeOptions()),
    "INT8, encoder too": Way(QuantizeOptions(quantize_also=("vfe",))),
    "INT8 for ONNX Runtime": Way(QuantizeOptions("onnxruntime")),
    "recall >= 0.98": Way(QuantizeOptions(), "recall>=0.98"),
    "recall >= 0.98 for ONNX Runtime": Way(QuantizeOptions("onnxruntime"), "recall>=0.98"),
    "recall >= 0.98 on real frames": Way(QuantizeOptions(), "recall>=0.98", real=True),
    "recall >= 0.99": Way(QuantizeOptions(), "recall>=0.99"),
    "recall >= 0.99 for ONNX Runtime": Way(QuantizeOptions("onnxruntime"), "recall>=0.99"),
    "recall >= 0.99 on real frames": Way(QuantizeOptions(), "recall>=0.99", real=True),
}
KINDS = ("bev", "3d", "2d", "aos")
ASKED = {
    "score >= 0.1": (0.1, tuple(LEAST_OVERLAP)),
    "score >= 0.3": (0.3, tuple(LEAST_OVERLAP)),
    "cars, score >= 0.3": (0.3, ("Car",)),
}
"""Which boxes of FP32 are to be found again."""


_GUESSED = 30  # boxes of a class
_CELL_M = 2.0

Array = NDArray[Any]


def world(work: Path) -> dict[str, Path]:
    """The generated frames, written where they are not there yet."""
    for name, (drives, frames, seed) in SETS.items():
        if not (work / name).is_dir():
            write_kitti(kitti_drives(drives, frames, seed, images=False), work / name)
    return {name: work / name for name in SETS}


class Detector:
    """A model file's boxes."""

    def __init__(self, path: Path, threads: int) -> None:
        spec = ModelFile(path).require_spec()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self.columns, self.classes = spec.output("boxes").details["columns"], spec.classes

    def __call__(self, sample: Any) -> FoundBoxes:
        (rows,) = self.session.run(["boxes"], inputs_of(sample))
        return FoundBoxes.of_rows(rows, self.columns, self.classes)


def guess_of(samples: Source, classes: Sequence[str]) -> FoundBoxes:
    """Of every class, boxes of middle size at the places where most stood."""
    rows: dict[str, list[Array]] = {name: [] for name in classes}
    for sample in samples:
        labels = labels_of(sample)
        for name, box in zip(labels["box_names"], labels["boxes"], strict=True):
            if name in rows:
                rows[str(name)].append(box)
    names, boxes, scores = [], [], []
    for name, found in rows.items():
        table = np.array(found).reshape(-1, 7)
        _, owner, counts = np.unique(
            np.floor(table[:, :2] / _CELL_M), axis=0, return_inverse=True, return_counts=True
        )
        for cell in np.argsort(-counts, kind="stable")[:_GUESSED]:
            there = table[owner.ravel() == cell]
            names.append(name)
            boxes.append([*np.median(there[:, :3], axis=0), *np.median(table[:, 3:6], axis=0), 0])
            scores.append(counts[cell] / len(samples))
    velocity = np.full((len(boxes), 2), np.nan)
    return FoundBoxes(tuple(names), np.array(boxes, float), velocity, np.array(scores, float))


def scores_of(samples: Source, find: Any) -> dict[str, dict[str, float | None]]:
    """AP R40, moderate, percent: kind to class to value."""
    judge = KittiAP()
    for sample in samples:
        labels = labels_of(sample)
        judge.update(kitti_truth(labels), kitti_found(find(sample), labels))
    table: dict[str, dict[str, float | None]] = {}
    for kind in KINDS:
        values = {name: judge.value(kind, name) for name in LEAST_OVERLAP}
        mean = float(np.mean(list(values.values())))
        table[kind] = {name: round(value, 2) for name, value in {**values, "mean": mean}.items()}
    return table


def labelled_cars(samples: Source, find: Detector, limits: Array) -> dict[str, int]:
    """KITTI's cars in the grid: how many FP32 finds, and its car boxes that are none."""
    found_cars = labelled = extra = 0
    for sample in samples:
        labels = labels_of(sample)
        if "boxes" not in labels:
            continue
        names = np.array([str(name) for name in labels["box_names"]])
        inside = (labels["boxes"][:, :2] >= limits[0]) & (labels["boxes"][:, :2] < limits[1])
        rows = labels["boxes"][(names == "Car") & inside.all(axis=1)].astype(float)
        truth = FoundBoxes(
            ("Car",) * len(rows), rows, np.full((len(rows), 2), np.nan), np.ones(len(rows))
        )
        found = find(sample)
        hits, total = found_again(truth, found, 0.0, iou=0.5)
        found_cars, labelled = found_cars + hits, labelled + total
        extra += sum(name == "Car" for name in found.names) - hits
    return {"labelled": labelled, "found": found_cars, "other_boxes": extra}


def nuscenes_clouds(root: Path, spec: ModelSpec) -> list[dict[str, Array]]:
    """Single turns; the grid lies to the right of the vehicle, where x goes in that data set."""
    scans = [np.fromfile(file, "<f4").reshape(-1, 5) for file in sorted(root.glob("*/*.bin"))]
    scale = np.array([1, 1, 1, 255], np.float32)
    return [prepare((scan[:, :4] / scale).astype(np.float32), spec) for scan in scans]


def boxes_again(
    files: dict[str, Path], held_out: Path, data: Path | None, threads: int
) -> dict[str, Any]:
    """Recall of every INT8 file's boxes against FP32's: generated frames, and real ones."""
    spec = ModelFile(files["FP32"]).require_spec()
    reach = np.array(spec.input("points").details["range"]).reshape(2, 3)[:, :2]
    finders = {name: Detector(path, threads) for name, path in files.items()}
    told: dict[str, Any] = {}
    sources: dict[str, Sequence[Any] | Source] = {
        "generated": open_samples(held_out, spec).subset(range(0, 200, 4))
    }
    if data is not None:
        sources["KITTI"] = open_samples(data / "kitti/training", spec)
        sources["KITTI testing"] = open_samples(data / "kitti/testing", spec)
        sources["nuScenes"] = nuscenes_clouds(data / "nuscenes", spec)
    for name, samples in sources.items():
        rows: dict[str, Any] = {"frames": len(samples)}
        sums: dict[tuple[str, str], NDArray[np.int64]] = {}
        for sample in samples:
            reference = finders["FP32"](sample)
            for other, find in finders.items():
                found = find(sample)
                for what, (score, classes) in ASKED.items():
                    counts = np.array(found_again(reference, found, score, classes=classes))
                    sums[other, what] = sums.get((other, what), np.zeros(2, int)) + counts
        for (other, what), (again, wanted) in sums.items():
            if other != "FP32":
                rows.setdefault(other, {})[what] = {"boxes": int(wanted), "again": int(again)}
        if name == "KITTI" and not isinstance(samples, Sequence):
            rows["cars"] = labelled_cars(samples, finders["FP32"], reach)
        told[name] = rows
    return told


def row_of(comparison: Comparison) -> dict[str, Any]:
    """AP of both files, and the interval of the difference."""
    metric = comparison.metric
    assert metric is not None  # the metric was asked for
    interval = metric.interval
    return {
        "fp32": round(float(metric.reference or 0), 2),
        "int8": round(float(metric.candidate), 2),
        "difference": round(float(metric.candidate - (metric.reference or 0)), 2),
        "interval_95": None
        if interval is None
        else [round(interval.low, 2), round(interval.high, 2)],
    }


def real_frames(data: Path, spec: ModelSpec) -> InMemorySamples:
    """What a budget for real frames is validated on: none of them is judged on, but nuScenes'."""
    kitti = [inputs_of(sample) for sample in open_samples(data / "kitti/testing", spec)]
    return InMemorySamples([*kitti, *nuscenes_clouds(data / "nuscenes", spec)])


def quantized(
    model: Path, calibration: Source, output: Path, way: Way, validation: Samples
) -> dict[str, Any]:
    """Write ``output``; its size, the share of multiply-adds in INT8, and what stays float."""
    for file in output.parent.glob(f"{output.stem}*"):
        file.unlink()
    if not way.budget:
        made: QuantizeResult | None = quantize(model, calibration, output, way.options)
        found: Mapping[str, Any] = {}
    else:
        # the price is multiply-adds: nothing is timed on this machine
        search = SearchOptions(cost="work", write_anyway=True)
        result = quantize_to_budget(
            model,
            calibration,
            output,
            budget=way.budget,
            validation=validation,
            options=way.options,
            search=search,
        )
        made, found = result.result, result.report
    assert made is not None  # written anyway
    work = made.report["multiply_adds"]
    told = {
        "size_bytes": made.report["size_bytes"],
        "work_in_int8": round(work["quantized"] / work["total"], 4),
    }
    if found:
        told["holds"] = found["holds"]
        told["validation"] = [row["value"] for row in found["scores"]]
        told["in_float"] = [row["unit"] for row in found["given_back"]]
    return told


def measure(variant: str, sets: dict[str, Path], work: Path, given: Any) -> dict[str, Any]:
    """One twin: exported, quantized each way, judged."""
    files = {"FP32": work / f"{variant}.onnx"}
    spec = export(variant, files["FP32"], overwrite=True).model.require_spec()
    held_out = open_samples(sets["held-out"], spec)
    calibration = write_samples(
        open_samples(sets["calibration"], spec), work / f"{variant}-calibration", overwrite=True
    )
    told: dict[str, Any] = {
        "weights": str(spec.weights),
        "fp32": scores_of(held_out, Detector(files["FP32"], given.threads)),
        "int8": {},
    }
    data = Path(given.data) if given.data else None
    for name, way in INT8.items():
        if given.ways and name not in given.ways:
            continue
        if way.options.quantize_also and variant == VARIANTS[0]:
            continue  # its encoder is quantized by default
        if way.real and data is None:
            continue
        validation: Samples = open_samples(sets["validation"], spec)
        if way.real and data is not None:
            validation = real_frames(data, spec)
        files[name] = work / f"{variant}.{len(files)}.onnx"
        report = quantized(files["FP32"], calibration, files[name], way, validation)
        comparison = verify(
            files["FP32"], files[name], held_out, metric="kitti_bev", threads=given.threads
        )
        detector = Detector(files[name], given.threads)
        told["int8"][name] = {
            **row_of(comparison),
            **report,
            "by_class": scores_of(held_out, detector)["bev"],
        }
        print(variant, name, told["int8"][name], flush=True)
    told["again"] = boxes_again(files, sets["held-out"], data, given.threads)
    return told


def merged(old: Any, new: Any) -> Any:
    """``new`` over ``old``, table by table."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: merged(old.get(key), value) for key, value in new.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="frames and model files")
    parser.add_argument("--data", default=os.environ.get("EDGEPORT_DATA"), help="real frames")
    parser.add_argument("--ways", nargs="+", choices=INT8, help="rows; the others stay")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=VARIANTS, help="keep the other twin's numbers")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    sets = world(given.work)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": environment(threads=given.threads),
        "metric": "KITTI AP R40, moderate, percent",
        "sets": {name: f"{d} drives of {f} frames, seed {s}" for name, (d, f, s) in SETS.items()},
    }
    asked = [given.only] if given.only else VARIANTS
    twins = {name: measure(name, sets, given.work, given) for name in asked}
    spec = ModelFile(given.work / f"{asked[0]}.onnx").require_spec()
    guess = guess_of(open_samples(sets["calibration"], spec), spec.classes)
    result["guess"] = scores_of(open_samples(sets["held-out"], spec), lambda _: guess)
    others = {}
    if (given.only or given.ways) and given.output.exists():
        others = json.loads(given.output.read_text())["twins"]
    if given.ways:
        twins = {name: merged(others.get(name, {}), twin) for name, twin in twins.items()}
    result["twins"] = others | twins
    write_text(given.output, json.dumps(result, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
