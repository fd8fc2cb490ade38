"""How long RayIoU and RayPQ take for one sample on one core, and against plain numpy.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/ray_metrics.py

The sample is a street of `calibration.samples.world`, the prediction the same street a voxel off,
looked at from eight places: 112,320 rays into either. The numpy version walks all rays one voxel at
a time in step, as one writes it without a compiler; both must say the same. The plain Python loop
is timed on a part of the rays. Result: results/ray_metrics.json.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.world.layout import make_scene
from calibration.samples.world.voxelize import semantics
from deploy.metrics.compiled import compiled
from deploy.metrics.rays.casting import MOST_STEPS, OCC3D_GRID, walk
from deploy.metrics.rays.directions import directions
from deploy.metrics.rays.iou import ray_counts, see
from deploy.metrics.rays.pq import segment_counts
from exporters.flashocc.geometry import Grid
from runtimes.machine import cpu_model, installed_versions, load_average

RESULT = Path(__file__).parent / "results" / "ray_metrics.json"
FREE = 17
RUNS = 15
PYTHON_RAYS = 2000

Float = NDArray[np.float64]


def walk_in_numpy(
    occupied: NDArray[np.bool_], starts: Float, ends: Float, most_steps: int
) -> tuple[Float, NDArray[np.int64]]:
    """`walk`, with all rays in step; rays that are done are dropped."""
    size = np.array(occupied.shape)
    ways = (ends - starts) / np.linalg.norm(ends - starts, axis=1, keepdims=True)
    voxel = starts.astype(np.int64)
    step = np.where(ways >= 0, 1, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.where(ways != 0, (voxel + (step > 0) - starts) / ways, np.inf)
        delta = np.where(ways != 0, step / ways, np.inf)
    distances, voxels = np.full(len(starts), -1.0), np.zeros(len(starts), np.int64)
    was_inside = np.zeros(len(starts), bool)
    alive = np.arange(len(starts))
    for _ in range(most_steps):
        inside: NDArray[np.bool_] = np.all((voxel >= 0) & (voxel < size), axis=1)
        on = inside | ~was_inside
        alive, voxel, nearest, inside = alive[on], voxel[on], nearest[on], inside[on]
        step, delta, was_inside = step[on], delta[on], was_inside[on] | inside
        if len(alive) == 0:
            break
        flat = np.ravel_multi_index(tuple(voxel[inside].T), occupied.shape)
        voxels[alive[inside]] = flat
        hit = np.zeros(len(alive), bool)
        hit[inside] = occupied.ravel()[flat]
        # the last of equally near axes, as the walk has it
        axis = 2 - nearest[:, ::-1].argmin(axis=1)
        rows = np.arange(len(alive))
        distances[alive[inside]] = nearest[rows, axis][inside]
        voxel[rows, axis] += step[rows, axis]
        nearest[rows, axis] += delta[rows, axis]
        alive, voxel, nearest = alive[~hit], voxel[~hit], nearest[~hit]
        step, delta, was_inside = step[~hit], delta[~hit], was_inside[~hit]
    return distances, voxels


def seconds(fn: Callable[[], Any], runs: int = RUNS) -> float:
    """The median of ``runs``."""
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        fn()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def main() -> None:
    truth = semantics(make_scene(0, 0), Grid())
    prediction = np.roll(truth, 1, axis=0)
    ids = np.where(truth < 11, truth, 0)
    origins = np.array([[1.0 + 3 * i, 0.2 * i, 1.84] for i in range(8)])
    load_before = load_average()
    compiled_at = time.perf_counter()
    seen = see(prediction, truth, origins, free=FREE)
    first_s = time.perf_counter() - compiled_at
    cast_s = seconds(lambda: see(prediction, truth, origins, free=FREE))
    iou_s = seconds(lambda: ray_counts(seen, FREE))
    pq_s = seconds(lambda: segment_counts(seen, ids, ids, FREE))

    corner = np.array(OCC3D_GRID.corner_m)
    starts = np.repeat((origins - corner) / OCC3D_GRID.voxel_m, len(directions()), axis=0)
    ends = starts + np.tile(directions() / OCC3D_GRID.voxel_m, (len(origins), 1))
    occupied = truth < FREE
    arguments = occupied, starts, ends, MOST_STEPS
    for ours, theirs in zip(compiled(walk)(*arguments), walk_in_numpy(*arguments), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    walk_s = seconds(lambda: compiled(walk)(*arguments))
    numpy_s = seconds(lambda: walk_in_numpy(*arguments), runs=3)
    part = occupied, starts[::56][:PYTHON_RAYS], ends[::56][:PYTHON_RAYS], MOST_STEPS
    python_s = seconds(lambda: walk(*part), runs=1) * len(starts) / len(part[1])

    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": cpu_model(), "cores_used": 1, "load_before": load_before},
        "versions": installed_versions(("numba", "llvmlite", "numpy")),
        "rays": len(starts),
        "first_call_s": round(first_s, 3),
        "sample": {
            "both_grids_cast_s": round(cast_s, 4),
            "ray_iou_counts_s": round(iou_s, 4),
            "ray_pq_counts_s": round(pq_s, 4),
            "total_s": round(cast_s + iou_s + pq_s, 4),
        },
        "one_grid": {
            "compiled_s": round(walk_s, 4),
            "numpy_s": round(numpy_s, 3),
            "python_s": round(python_s, 2),
            "faster_than_numpy": round(numpy_s / walk_s, 1),
            "faster_than_python": round(python_s / walk_s, 1),
        },
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
