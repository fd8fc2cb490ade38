"""Who was found in one frame, at every score from which on boxes count.

What an object of the ground truth is to a class and a difficulty:

* *wanted*: of the class, high enough in the image, and not too hidden or cut off;
* *ignored*, neither missed nor wrongly found: of the class but too hard, or of its neighbour class
  (a Van is no Car, and no mistake);
* nothing: of any other class.

A found box lower than the difficulty's height is ignored whatever its class; else it counts if it
is of the class. What lies in an area that nobody labelled is no mistake in the image.

Every object, in the order of the file, takes the box that overlaps it most, and any box that counts
rather than an ignored one. That depends on which boxes are there, so it is done anew for every
score that some box of the frame has: between these nothing changes. Only the scores *at* which
precision is looked up come from matching all boxes, each object with the highest score that
overlaps it enough. (Geiger et al., CVPR 2012, and the devkit of object detection, 2017.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.kitti_objects import (
    KINDS,
    Kind,
    KittiObjects,
    covered_by_ignored,
    overlaps,
)
from deploy.metrics.compiled import compiled

Float = NDArray[np.float64]
Flags = NDArray[np.int64]

WANTED, IGNORED, NOTHING = 0, 1, -1

LEAST_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person_sitting"}


@dataclass(frozen=True)
class Difficulty:
    """Which objects are wanted: higher than ``height_px`` in the image, and no harder than this."""

    name: str
    height_px: float
    occlusion: int
    truncation: float


DIFFICULTIES = (
    Difficulty("easy", 40, 0, 0.15),
    Difficulty("moderate", 25, 1, 0.30),
    Difficulty("hard", 25, 2, 0.50),
)


@dataclass(frozen=True)
class FrameEvidence:
    """What one frame says of a class, a difficulty and a kind of overlap.

    Attributes:
        wanted: objects that should be found.
        hits: ``[h]``, scores of those found among all boxes.
        changes: ``[e, 4]``, scores from high to low, and what boxes of that score change when they
            join: true positives, false positives, and the sum over true positives of
            ``(1 + cos(alpha - true alpha)) / 2``.
    """

    wanted: int
    hits: Float
    changes: Float


def frame_evidence(
    truth: KittiObjects,
    found: KittiObjects,
    kind: Kind,
    class_name: str,
    difficulty: Difficulty,
    least: float | None = None,
) -> FrameEvidence:
    """Match one frame.

    Args:
        least: overlap above which an object is found; the devkit's by default.
    """
    limit = LEAST_OVERLAP[class_name] if least is None else least
    shared = overlaps(truth, found, kind)
    covered = covered_by_ignored(truth, found) if kind == "2d" else np.zeros((0, len(found)))
    return _evidence(truth, found, shared, covered, class_name, difficulty, limit)


def all_evidence(
    truth: KittiObjects, found: KittiObjects
) -> Iterator[tuple[tuple[Kind, str, str], FrameEvidence]]:
    """Of every kind, class and difficulty."""
    for kind in KINDS:
        shared = overlaps(truth, found, kind)
        covered = covered_by_ignored(truth, found) if kind == "2d" else np.zeros((0, len(found)))
        for name, least in LEAST_OVERLAP.items():
            for difficulty in DIFFICULTIES:
                evidence = _evidence(truth, found, shared, covered, name, difficulty, least)
                yield (kind, name, difficulty.name), evidence


def _evidence(
    truth: KittiObjects,
    found: KittiObjects,
    shared: Float,
    covered: Float,
    class_name: str,
    difficulty: Difficulty,
    least: float,
) -> FrameEvidence:
    wanted, counting = (
        truth_flags(truth, class_name, difficulty),
        found_flags(found, class_name, difficulty),
    )
    scores = found.scores.astype(np.float64)
    cutoffs = np.unique(scores[counting != NOTHING])[::-1]
    turns = np.subtract.outer(truth.alpha, found.alpha)
    hits, counts = compiled(match)(
        shared, covered, turns, wanted, counting, scores, np.ascontiguousarray(cutoffs), least
    )
    changes = np.c_[cutoffs, np.diff(counts, axis=0, prepend=0.0)]
    return FrameEvidence(
        int((wanted == WANTED).sum()), hits, changes[np.any(changes[:, 1:] != 0, axis=1)]
    )


def truth_flags(truth: KittiObjects, class_name: str, difficulty: Difficulty) -> Flags:
    """``WANTED``, ``IGNORED`` or ``NOTHING`` of every object."""
    names = np.char.lower(np.array(truth.names, "U32"))
    of_class = names == class_name.lower()
    neighbour = names == NEIGHBOURS.get(class_name, "none").lower()
    hard = (
        (truth.occlusion > difficulty.occlusion)
        | (truth.truncation > difficulty.truncation)
        | (truth.pixels[:, 3] - truth.pixels[:, 1] <= difficulty.height_px)
    )
    return np.where(of_class & ~hard, WANTED, np.where(of_class | neighbour, IGNORED, NOTHING))


def found_flags(found: KittiObjects, class_name: str, difficulty: Difficulty) -> Flags:
    """``WANTED`` of a box that counts, ``IGNORED`` of one too low, else ``NOTHING``."""
    names = np.char.lower(np.array(found.names, "U32"))
    low = np.abs(found.pixels[:, 3] - found.pixels[:, 1]) < difficulty.height_px
    return np.where(low, IGNORED, np.where(names == class_name.lower(), WANTED, NOTHING))


def match(
    shared: Float,
    covered: Float,
    turns: Float,
    wanted: Flags,
    counting: Flags,
    scores: Float,
    cutoffs: Float,
    least: float,
) -> tuple[Any, Any]:
    """Scores of hits among all boxes ``[h]``, and at each cutoff ``[c, 3]`` TP, FP, similarity."""
    hits = np.empty(len(wanted))
    hit_count = 0
    counts = np.zeros((len(cutoffs), 3))
    for step in range(-1, len(cutoffs)):  # -1: all boxes, by score
        taken = counting == -1
        if step >= 0:
            taken |= scores < cutoffs[step]
        present = ~taken
        for i in range(len(wanted)):
            if wanted[i] == -1:
                continue
            best, best_value, best_ignored = -1, 0.0, False
            for j in range(len(scores)):
                if taken[j] or shared[i, j] <= least:
                    continue
                if step < 0:
                    if best < 0 or scores[j] > best_value:
                        best, best_value = j, scores[j]
                elif counting[j] == 0:
                    if best < 0 or best_ignored or shared[i, j] > best_value:
                        best, best_value, best_ignored = j, shared[i, j], False
                elif best < 0:
                    best, best_ignored = j, True
            if best < 0:
                continue
            taken[best] = True
            if wanted[i] == 1 or counting[best] == 1:
                continue
            if step < 0:
                hits[hit_count] = scores[best]
                hit_count += 1
            else:
                counts[step, 0] += 1
                counts[step, 2] += (1 + np.cos(turns[i, best])) / 2
        if step < 0:
            continue
        for j in range(len(scores)):
            if taken[j] or not present[j] or counting[j] != 0:
                continue
            excused = False
            for area in range(len(covered)):
                excused |= covered[area, j] > least
            if not excused:
                counts[step, 1] += 1
    return hits[:hit_count].copy(), counts
