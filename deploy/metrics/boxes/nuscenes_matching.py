"""Who was found in one sample, by the distance of centres on the ground (nuScenes).

What is left out before, on both sides: what is further from the vehicle than its class is judged
(50, 40 or 30 m), and bicycles and motorcycles whose centre lies in a bicycle rack, where nobody
counted them; of the ground truth also what no LiDAR or radar point hit.

Boxes are taken by falling score. Each takes the nearest object of its class that none has taken,
and is right if that is less than d away on the ground: for d = 0.5, 1, 2 and 4 m alone. Where it is
right at 2 m it has five errors: of place, of size (1 - IoU of the aligned boxes), of yaw (of
barriers up to half a turn), of velocity, and of the attribute. (Caesar et al., "nuScenes", CVPR
2020, and the devkit, detection_cvpr_2019.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.compiled import compiled
from exporters.errors import UserError

Array = NDArray[Any]
Float = NDArray[np.float64]

RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
"""Classes, and how far from the vehicle each is judged."""

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
ERROR_DISTANCE_M = 2.0
ERRORS = ("place", "size", "yaw", "velocity", "attribute")

MOST_BOXES = 500
RACK = "bicycle_rack"
_IN_RACKS = ("bicycle", "motorcycle")


@dataclass(frozen=True)
class NuScenesObjects:
    """Of one sample, ground truth or found, in a level frame with the vehicle as its origin.

    Attributes:
        names: ``[n]``, of `RANGE_M`; of ground truth also ``bicycle_rack``. Others are left out.
        boxes: ``[n, 7]``, centre x, y, z, length, width, height, yaw.
        velocity: ``[n, 2]`` m/s in x and y; NaN where it is not known.
        attributes: ``[n]``, empty where there is none.
        scores: ``[n]``, of what was found.
        points: ``[n]``, LiDAR and radar points on it, of ground truth.
    """

    names: tuple[str, ...]
    boxes: Float
    velocity: Float
    attributes: tuple[str, ...]
    scores: Float = field(default_factory=lambda: np.zeros(0))
    points: Float = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, which: Array) -> NuScenesObjects:
        """Some of the objects, by index or mask."""
        index = np.arange(len(self))[which]
        return NuScenesObjects(
            tuple(self.names[i] for i in index),
            self.boxes[index],
            self.velocity[index],
            tuple(self.attributes[i] for i in index),
            *(column[index] if len(column) else column for column in (self.scores, self.points)),
        )

    def scored(self, scores: Array) -> NuScenesObjects:
        """The same objects as if found with these scores."""
        return replace(self, scores=np.asarray(scores, np.float64))


@dataclass(frozen=True)
class SampleEvidence:
    """What one sample says of a class.

    Attributes:
        wanted: objects that should be found.
        scores: ``[p]``, of boxes, falling.
        right: ``[p, 4]``, 1 where a box is right at `DISTANCES_M`.
        errors: ``[p, 5]``, `ERRORS` of those that are right at 2 m; NaN elsewhere and where the
            ground truth knows none.
    """

    wanted: int
    scores: Float
    right: Float
    errors: Float


def sample_evidence(
    truth: NuScenesObjects, found: NuScenesObjects
) -> Iterator[tuple[str, SampleEvidence]]:
    """Match one sample, class by class.

    Raises:
        UserError: more boxes were found than may be.
    """
    if len(found) > MOST_BOXES:
        raise UserError(
            f"{len(found)} boxes in one sample; nuScenes judges at most {MOST_BOXES}",
            fix="Keep those with the highest scores",
        )
    racks = truth.boxes[[name == RACK for name in truth.names]]
    truth = truth.chosen(_judged(truth, racks) & (truth.points > 0))
    found = found.chosen(_judged(found, racks))
    for name in RANGE_M:
        theirs, ours = (
            o.chosen(np.array([n == name for n in o.names], bool)) for o in (truth, found)
        )
        # of equal scores the later one goes first, as the devkit sorts
        order = np.lexsort((np.arange(len(ours)), ours.scores))[::-1]
        yield name, _matched(name, theirs, ours.chosen(order))


def _judged(objects: NuScenesObjects, racks: Float) -> NDArray[np.bool_]:
    """Which objects are near enough and in no rack."""
    limit = np.array([RANGE_M.get(name, 0.0) for name in objects.names])
    near = np.hypot(objects.boxes[:, 0], objects.boxes[:, 1]) < limit
    parked = np.array([name in _IN_RACKS for name in objects.names], bool)
    for rack in racks:
        gap = objects.boxes[:, :3] - rack[:3]
        cos, sin = np.cos(rack[6]), np.sin(rack[6])
        turned = np.c_[
            cos * gap[:, 0] + sin * gap[:, 1], cos * gap[:, 1] - sin * gap[:, 0], gap[:, 2]
        ]
        near &= ~(parked & (np.abs(turned) <= rack[3:6] / 2).all(axis=1))
    return near


def _matched(name: str, truth: NuScenesObjects, found: NuScenesObjects) -> SampleEvidence:
    gaps = np.hypot(*(np.subtract.outer(found.boxes[:, k], truth.boxes[:, k]) for k in (0, 1)))
    partners: Array = compiled(take_nearest)(gaps, np.array(DISTANCES_M))
    errors = np.full((len(found), len(ERRORS)), np.nan)
    at = DISTANCES_M.index(ERROR_DISTANCE_M)
    rows = np.flatnonzero(partners[:, at] >= 0)
    ours, theirs = found.chosen(rows), truth.chosen(partners[rows, at])
    errors[rows, 0] = gaps[rows, partners[rows, at]]
    common = np.minimum(ours.boxes[:, 3:6], theirs.boxes[:, 3:6]).prod(axis=1)
    volumes = [o.boxes[:, 3:6].prod(axis=1) for o in (ours, theirs)]
    errors[rows, 1] = 1 - common / (volumes[0] + volumes[1] - common)
    period = np.pi if name == "barrier" else 2 * np.pi
    turn = theirs.boxes[:, 6] - ours.boxes[:, 6]
    errors[rows, 2] = np.abs((turn + period / 2) % period - period / 2)
    errors[rows, 3] = np.linalg.norm(ours.velocity - theirs.velocity, axis=1)
    alike = [a == b for a, b in zip(ours.attributes, theirs.attributes, strict=True)]
    known = np.array([a != "" for a in theirs.attributes], bool)
    errors[rows, 4] = np.where(known, 1.0 - np.array(alike, float), np.nan)
    return SampleEvidence(len(truth), found.scores, (partners >= 0).astype(np.float64), errors)


def take_nearest(gaps: Float, limits: Float) -> Any:
    """Which object each box takes at each limit, ``[found, limits]``; -1 where it is wrong.

    Args:
        gaps: metres ``[found, truth]``, the boxes by falling score.
    """
    partners = np.full((gaps.shape[0], len(limits)), -1)
    for at in range(len(limits)):
        taken = np.zeros(gaps.shape[1], np.bool_)
        for box in range(gaps.shape[0]):
            nearest, least = -1, np.inf
            for i in range(gaps.shape[1]):
                if not taken[i] and gaps[box, i] < least:
                    nearest, least = i, gaps[box, i]
            if nearest >= 0 and least < limits[at]:
                taken[nearest] = True
                partners[box, at] = nearest
    return partners
