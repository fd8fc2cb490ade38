"""A made-up report with everything in it: seeded, plausible, and labelled as invented.

The street is built from boxes; "int8" is that street with noise at a few per cent of the voxels,
as an engine's labels would differ. No number here was measured.
"""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
)
FREE = 17
CAMERAS = ["FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT"]
NOTE = "Fixture: every number on this page is made up, to test the page."
Labels = NDArray[np.uint8]


def street(seed: int = 0, shape: tuple[int, int, int] = (200, 200, 16)) -> Labels:
    """A crossing with buildings, trees and traffic, uint8 ``[x, y, z]``, 0.4 m voxels.

    A smaller ``shape`` is cut from its middle.
    """
    rng = np.random.default_rng(seed)
    grid = np.full((200, 200, 16), FREE, np.uint8)

    def fill(name: str, x: float, y: float, dx: float, dy: float, z: int, dz: int) -> None:
        a, b = (int((v + 40) / 0.4) for v in (x, y))
        i, j = max(1, int(dx / 0.4)), max(1, int(dy / 0.4))
        grid[max(0, a) : max(0, a + i), max(0, b) : max(0, b + j), z : z + dz] = CLASSES.index(name)

    fill("terrain", -40, -40, 80, 80, 1, 1)
    fill("sidewalk", -40, -11, 80, 22, 1, 1)
    fill("sidewalk", 10, -40, 17, 80, 1, 1)
    fill("driveable_surface", -40, -7.6, 80, 15.2, 1, 1)
    fill("driveable_surface", 13, -40, 11, 80, 1, 1)
    fill("other_flat", -40, -0.4, 50, 0.8, 1, 1)
    for x in range(-38, 40, 13):
        for side in (-1, 1):
            if not 4 < x < 30:
                depth, height = rng.uniform(8, 14), int(rng.integers(8, 15))
                fill("manmade", x, 15 if side > 0 else -15 - depth, 10.5, depth, 2, height)
    for _ in range(26):
        x, y = rng.uniform(-38, 38), rng.choice([-1, 1]) * rng.uniform(11.5, 14)
        if 8 < x < 28:
            continue
        fill("vegetation", x, y, 0.4, 0.4, 2, 4)
        for level, radius in enumerate((0.8, 1.4, 1.6, 1.2, 0.6)):
            fill("vegetation", x - radius, y - radius, 2 * radius, 2 * radius, 6 + level, 1)
    objects = {
        "car": (4.4, 1.8, 4, 11),
        "truck": (7.2, 2.6, 8, 2),
        "bus": (11.2, 2.8, 8, 1),
        "trailer": (8.0, 2.6, 9, 1),
        "construction_vehicle": (5.2, 2.6, 7, 1),
        "motorcycle": (2.0, 0.8, 4, 2),
        "bicycle": (1.8, 0.6, 4, 3),
        "pedestrian": (0.6, 0.6, 5, 12),
        "barrier": (2.0, 0.6, 3, 5),
        "traffic_cone": (0.4, 0.4, 2, 6),
        "others": (1.2, 0.8, 3, 3),
    }
    lanes = [-6.4, -3.0, 1.6, 5.0]
    for name, (dx, dy, dz, count) in objects.items():
        small = dx < 3
        for index in range(count):
            y = rng.choice([-10.0, 9.0]) + rng.uniform(-1, 1) if small else lanes[index % 4]
            fill(name, rng.uniform(-38, 36), y, dx, dy, 2, dz)
    x, y = ((200 - size) // 2 for size in shape[:2])
    return np.ascontiguousarray(grid[x : x + shape[0], y : y + shape[1], : shape[2]])


def disturbed(grid: Labels, share: float, seed: int) -> Labels:
    """``grid`` where a share of the occupied cells takes a neighbour's label."""
    rng = np.random.default_rng(seed)
    out = grid.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        chosen = (rng.random(grid.shape) < share) & (np.roll(grid, step, axis) != grid)
        out[chosen] = np.roll(grid, step, axis)[chosen]
    return out


def noise(shape: tuple[int, int, int] = (200, 200, 16), seed: int = 3) -> Labels:
    """What random weights predict: every class everywhere, nearly nothing free."""
    return np.random.default_rng(seed).integers(0, 18, shape).astype(np.uint8)


def packed(grid: Labels) -> str:
    return base64.b64encode(zlib.compress(grid.tobytes(), 9)).decode()


def picture(index: int, size: tuple[int, int] = (352, 198)) -> str:
    """A small gradient with a horizon, JPEG as a data URI."""
    from PIL import Image

    width, height = size
    down = np.linspace(0, 1, height)[:, None]
    across = np.linspace(0, 1, width)[None, :]
    sky = np.stack([120 + 90 * down, 150 + 70 * down, 200 + 30 * down], -1) * np.ones((1, width, 1))
    road = np.stack([90 + 40 * across, 92 + 30 * across, 100 + 12 * index + 0 * across], -1)
    pixels = np.where((down > 0.55)[..., None], road * np.ones((height, 1, 1)), sky)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def scene(sample: str, grids: dict[str, tuple[Labels, str]], images: list[str]) -> dict[str, Any]:
    shape = next(iter(grids.values()))[0].shape
    return {
        "sample": sample,
        "shape": list(shape),
        "free": FREE,
        "voxel_m": 0.4,
        "origin_m": [-0.2 * shape[0], -0.2 * shape[1], -1.0],
        "images": [
            {"camera": f"CAM_{name}", "data_uri": uri}
            for name, uri in zip(CAMERAS, images, strict=False)
        ],
        "grids": [
            {"name": name, "labels": packed(grid), "note": note}
            for name, (grid, note) in grids.items()
        ],
    }


def latency_case(name: str, runtime: str, middle_ms: float, runs: int, seed: int) -> dict[str, Any]:
    """Log-normal latencies with a slow tail; p99 is left out where the runs are too few."""
    rng = np.random.default_rng(seed)
    values = middle_ms * rng.lognormal(0, 0.012, runs)
    values[rng.random(runs) < 0.03] *= rng.uniform(1.05, 1.2)
    percentiles: list[dict[str, Any]] = []
    for p in (50, 90, 99):
        if p == 99 and runs < 459:
            percentiles.append({"p": p, "value_ms": None, "reason": f"needs 459 runs, had {runs}"})
            continue
        value, low, high = (float(np.percentile(values, q)) for q in (p, p - 4, min(99.9, p + 4)))
        percentiles.append({"p": p, "value_ms": value, "low_ms": low, "high_ms": high})
    return {
        "name": name,
        "runtime": runtime,
        "latencies_ms": [round(float(v), 4) for v in values],
        "percentiles": percentiles,
        "throughput_hz": float(1000 / values.mean()),
        "ratio_to_reference": None,
        "peak_rss_mib": 600 + middle_ms / 3,
    }


def minimal_report() -> dict[str, Any]:
    return {
        "schema": "edgeport.report/2",
        "title": "Nothing ran",
        "created": "2026-11-22T03:45:00Z",
    }


def full_report(
    *,
    images: list[str] | None = None,
    extra_scenes: list[dict[str, Any]] | None = None,
    truth: bool = True,
    shape: tuple[int, int, int] = (200, 200, 16),
) -> dict[str, Any]:
    """Every section, with made-up numbers."""
    from tests.deploy.report import fixture_parts as parts
    from tests.deploy.report.fixture_texts import completions

    first = street(shape=shape)
    grids = {"fp32": (first, ""), "int8-onnxruntime": (disturbed(first, 0.03, 1), "")}
    if truth:
        grids["ground truth"] = (disturbed(first, 0.06, 2), "made up")
    pictures = images if images is not None else [picture(i) for i in range(6)]
    scenes = [scene("made-up crossing", grids, pictures), *(extra_scenes or [])]
    return {
        **minimal_report(),
        "title": "flashocc-m0 from FP32 to INT8",
        "notes": [NOTE, "Random weights, seed 0: labels are not meaningful, agreement is."],
        "environment": parts.environment(),
        "verdict": parts.verdict(),
        "model": parts.model(list(CLASSES)),
        "stages": parts.stages(),
        "samples": parts.samples(),
        "quantization": parts.quantization(),
        "engines": parts.engines(),
        "latency": {
            "threads": 2,
            "runs": 200,
            "confidence": 0.95,
            "cases": [
                latency_case("fp32", "onnxruntime", 1312, 200, 1),
                latency_case("int8-onnxruntime", "onnxruntime", 484, 200, 2)
                | {"ratio_to_reference": {"value": 2.711, "low": 2.694, "high": 2.728}},
            ],
        },
        "agreement": parts.agreement(first, grids["int8-onnxruntime"][0], list(CLASSES)),
        "waterfall": parts.waterfall(),
        "completions": completions(),
        "occupancy": scenes,
    }
