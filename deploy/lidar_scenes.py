"""LiDAR boxes for the report: the points of a sample from above, and the boxes of every file.

Ground truth is drawn where the sample has it. Points are thinned, evenly and always in the same
way: the picture is for eyes, the numbers beside it are of everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Samples, inputs_of, labels_of
from deploy.metrics.boxes.from_samples import FoundBoxes
from deploy.sessions import open_session
from exporters.modelfile import ModelSpec

Array = NDArray[Any]
JSON = dict[str, Any]

LEAST_SCORE = 0.3
"""Boxes below it are what suppression is for; they would hide the others."""

MOST_POINTS = 4000
_FARTHEST_M = 200.0  # rows that hold no point lie far outside


def draw_boxes(
    spec: ModelSpec, files: Mapping[str, Path], samples: Samples, count: int, threads: int | None
) -> list[JSON]:
    """The entries under ``detection`` of ``report.json`` for the first ``count`` samples.

    Args:
        files: name to the model file that finds the boxes.
    """
    output = next((one for one in spec.outputs if one.semantics == "boxes"), None)
    points = next((one for one in spec.inputs if one.semantics == "points"), None)
    if output is None or points is None or count == 0:
        return []
    chosen = list(islice(zip(samples.names, samples, strict=True), count))
    entries: list[JSON] = [
        {
            "sample": name,
            "least_score": LEAST_SCORE,
            "points_m": _thinned(sample[points.name]),
            "files": [],
        }
        for name, sample in chosen
    ]
    for role, path in files.items():
        with open_session(path, threads=threads) as session:
            for (_, sample), entry in zip(chosen, entries, strict=True):
                rows = session.run(inputs_of(sample))[output.name]
                found = FoundBoxes.of_rows(rows, output.details.get("columns", ()), spec.classes)
                kept = np.flatnonzero(found.scores >= LEAST_SCORE)
                names = [found.names[index] for index in kept]
                drawn = _boxes(names, found.boxes[kept], found.scores[kept].tolist())
                entry["files"].append({"name": role, "boxes": drawn})
    for (_, sample), entry in zip(chosen, entries, strict=True):
        labels = labels_of(sample)
        if {"boxes", "box_names"} <= labels.keys():
            names = [str(name) for name in labels["box_names"]]
            drawn = _boxes(names, labels["boxes"], [None] * len(names))
            entry["files"].insert(0, {"name": "ground truth", "boxes": drawn})
    return entries


def corners(boxes: Array) -> Array:
    """Corners on the ground ``[n, 4, 2]`` of boxes ``[n, 7]``: front left first, then clockwise."""
    half = np.asarray(boxes, np.float64)[:, None, 3:5] / 2
    own = half * np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    cos, sin = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    turned = np.stack(
        [cos * own[..., 0] - sin * own[..., 1], sin * own[..., 0] + cos * own[..., 1]], axis=-1
    )
    placed: Array = turned + np.asarray(boxes, np.float64)[:, None, :2]
    return placed


def _boxes(names: Sequence[str], boxes: Array, scores: Sequence[float | None]) -> list[JSON]:
    table = np.asarray(boxes, np.float64).reshape(-1, 7)
    return [
        {
            "class": name,
            "score": None if score is None else round(float(score), 3),
            "corners_m": np.round(ground, 2).tolist(),
        }
        for name, score, ground in zip(names, scores, corners(table), strict=True)
    ]


def _thinned(points: Array) -> list[list[float]]:
    """At most ``MOST_POINTS`` of the points ``[n, columns]``, as x and y in metres."""
    flat = np.asarray(points, np.float64).reshape(-1, points.shape[-1])[:, :2]
    real = flat[np.abs(flat).max(axis=1) < _FARTHEST_M]
    step = max(1, -(-len(real) // MOST_POINTS))
    kept: list[list[float]] = np.round(real[::step], 1).tolist()
    return kept
