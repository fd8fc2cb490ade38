"""What PillarHist costs on a CPU, beside PointPillars' encoder, and what suppression costs.

    python benchmarks/pillarhist_cpu.py --data ROOT [--rounds 12] [-o benchmarks/results/…json]

One thread, ONNX Runtime, all networks in turn in every round. What counts is CPU time, not time on
the wall: where others share the machine it is nearer to what a quiet one would need, though they
still share caches and memory. Real KITTI points: what the camera sees (17k to 20k) and whole turns
(113k to 127k). Weights are random; time does not depend on them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from exporters.files import write_text
from exporters.pillarhist import host
from exporters.pillarhist.config import CONFIGS, Histogram
from exporters.pillarhist.exported_encoders import exported_encoder
from exporters.pillarhist.exporter import traced
from exporters.pillarhist.inference import InferenceModel
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.suppression import Suppression
from exporters.trace import trace
from runtimes.machine import environment

RESULT = Path(__file__).parent / "results" / "pillarhist_cpu.json"
HISTOGRAM, POINTS = "pillarhist-pointpillars-kitti", "pointpillars-kitti"
Sessions = dict[str, tuple[ort.InferenceSession, dict[str, NDArray[Any]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": environment(threads=1),
        "rounds": given.rounds,
        "encoders": [
            encoders(given.data / "kitti/training/velodyne_reduced", 20_480, given.rounds),
            encoders(given.data / "kitti/training/velodyne", 131_072, given.rounds),
        ],
        "suppression": suppression(given.sets, given.rounds),
    }
    write_text(given.output, json.dumps(result, indent=1) + "\n", overwrite=True)
    print(json.dumps({k: result[k] for k in ("encoders", "suppression")}, indent=1))


def encoders(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Medians of both encoders and of the whole frame with the histogram, interleaved."""
    scan = np.fromfile(sorted(folder.glob("*.bin"))[0], np.float32).reshape(-1, 4)
    cloud = np.full((rows, 4), -10_000.0, np.float32)
    cloud[: len(scan)] = scan
    sessions: Sessions = {}
    for name, bins in ((HISTOGRAM, 64), (HISTOGRAM, 32), (POINTS, 0)):
        config = replace(CONFIGS[name], rows=rows)
        if bins:
            config = replace(config, encoder=Histogram(bins=bins))
        network = PillarDetector(config).eval()
        label = f"{name} {bins} bins" if bins else name
        sessions[f"encoder of {label}"] = session(exported_encoder(network.vfe), config, cloud)
        if bins == 64:
            sessions[f"frame of {label}"] = session(InferenceModel(network), config, cloud)
    times = interleaved(sessions, rounds)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    encoder, frame, points = (
        np.array(times[key])
        for key in (
            f"encoder of {HISTOGRAM} 64 bins",
            f"frame of {HISTOGRAM} 64 bins",
            f"encoder of {POINTS}",
        )
    )
    return {
        "points": len(scan),
        "rows": rows,
        "median_cpu_ms": {name: round(value, 1) for name, value in medians.items()},
        "share_of_frame": round(float(np.median(encoder / frame)), 3),
        "times_faster_than_points": round(float(np.median(points / encoder)), 2),
    }


def session(module: torch.nn.Module, config: Any, cloud: NDArray[np.float32]) -> Any:
    graph = traced(module, config, "out")
    return ort.InferenceSession(graph.SerializeToString(), one_thread()), {"points": cloud}


def suppression(sets: int, rounds: int) -> dict[str, Any]:
    """Time for 500 boxes, and random sets of 60 that differ from polygons clipped one by one."""
    random = np.random.default_rng(0)
    module = Suppression(1, 500, 0.2)
    boxes = random_boxes(random, 500, 60.0)[None]
    feeds = {"boxes": boxes, "valid": np.ones((1, 500), bool)}
    timed = interleaved({"500 boxes": (graph_of(module, feeds), feeds)}, rounds)["500 boxes"]
    small = Suppression(1, 60, 0.2)
    feeds = {"boxes": boxes[:, :60], "valid": np.ones((1, 60), bool)}
    judge = graph_of(small, feeds)
    different = near = 0
    for _ in range(sets):
        found = random_boxes(random, 60, random.uniform(5, 60))
        (keep,) = judge.run(None, {**feeds, "boxes": found[None]})
        kept, margin = host.suppress(found.astype(float), -np.arange(60.0), 0.2)
        equal = np.array_equal(np.flatnonzero(keep[0]), kept)
        near += not equal and margin < 1e-5
        different += not equal and margin >= 1e-5
    return {
        "boxes": 500,
        "median_cpu_ms": round(float(np.median(timed)), 1),
        "random_sets": sets,
        "different": different,
        "different_within_1e-5_of_the_limit": near,
    }


def graph_of(module: torch.nn.Module, feeds: dict[str, NDArray[Any]]) -> ort.InferenceSession:
    inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
    return ort.InferenceSession(trace(module, inputs, ["keep"]).SerializeToString(), one_thread())


def random_boxes(random: np.random.Generator, count: int, span: float) -> NDArray[np.float32]:
    places = random.uniform(0, span, (count, 2))
    sizes = random.uniform((0.4, 0.4), (6, 3), (count, 2))
    boxes: NDArray[np.float32] = np.c_[places, sizes, random.uniform(-4, 4, count)].astype("f4")
    return boxes


def interleaved(sessions: Sessions, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU time of every round; the first one of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(rounds + 1):
        for name, (judge, feeds) in sessions.items():
            start = time.process_time()
            judge.run(None, feeds)
            if number:
                times[name].append((time.process_time() - start) * 1e3)
    return times


def one_thread() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


if __name__ == "__main__":
    main()
