"""KITTI's average precision, and its average orientation similarity.

Let ``n`` objects be wanted in a set, and the hits among all boxes have scores s_1 >= s_2 >= …; the
precision is looked up at those scores at which recall comes nearest to 0, 1/40, 2/40, …: s_i is
taken unless the next hit is nearer. At each of these at most 41 scores t the boxes with a score of
at least t are matched:

    precision = TP / (TP + FP)              made monotone: the best at this recall or a higher one
    AP R40 = 100 / 40 * sum p[1 … 40]       AP R11 = 100 / 11 * sum p[0, 4, … 40]
    AOS = the same with sum (1 + cos(alpha - true alpha)) / 2 in place of TP

Slots that recall never reaches are zero. (Geiger et al., CVPR 2012; R40: Simonelli et al.,
"Disentangling Monocular 3D Object Detection", ICCV 2019.) A set may hold a frame several times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.kitti_matching import FrameEvidence, all_evidence
from deploy.metrics.boxes.kitti_objects import Kind, KittiObjects
from deploy.metrics.compiled import compiled
from deploy.metrics.paired import Float, Pool

SLOTS = 41
_TP, _FP, _SIMILARITY = 1, 2, 3


def precision_pool(evidence: Sequence[FrameEvidence], *, similarity: bool = False) -> Pool:
    """Precision ``[sets, 41]`` of sets of frames, monotone; NaN where a set wants nothing.

    Args:
        evidence: of each frame.
        similarity: of orientation instead.
    """
    wanted = np.array([frame.wanted for frame in evidence], np.float64)
    frames = np.arange(len(evidence))
    hits = np.concatenate([np.zeros(0), *(frame.hits for frame in evidence)])
    hit_frames = np.repeat(frames, [len(frame.hits) for frame in evidence])
    order = np.argsort(-hits, kind="stable")
    changes = np.concatenate([np.zeros((0, 4)), *(frame.changes for frame in evidence)])
    change_frames = np.repeat(frames, [len(frame.changes) for frame in evidence])
    at = np.argsort(-changes[:, 0], kind="stable")
    changes, change_frames = changes[at], change_frames[at]
    good = np.ascontiguousarray(changes[:, _SIMILARITY if similarity else _TP])
    boxes = changes[:, _TP] + changes[:, _FP]
    columns = hits[order], hit_frames[order], changes[:, 0].copy(), change_frames, good, boxes

    def pool(times: Float) -> Float:
        table: Float = compiled(precision_of_sets)(np.ascontiguousarray(times), wanted, *columns)
        return table

    return pool


def ap_pool(
    evidence: Sequence[FrameEvidence], *, similarity: bool = False, points: int = 40
) -> Pool:
    """Average precision in percent of sets of frames; ``points`` is 40 or 11."""
    of_sets = precision_pool(evidence, similarity=similarity)

    def pool(times: Float) -> Float:
        table = of_sets(times)
        chosen = table[..., 1:] if points == 40 else table[..., ::4]
        average: Float = 100 * chosen.mean(axis=-1)
        return average

    return pool


def precision_of_sets(
    times: Float,
    wanted: Float,
    hits: Float,
    hit_frames: NDArray[np.int64],
    scores: Float,
    change_frames: NDArray[np.int64],
    good: Float,
    boxes: Float,
) -> Any:
    """Of frames that stand ``times`` ``[sets, frames]`` in a set; see `precision_pool`."""
    slots = 41
    table = np.zeros((len(times), slots))
    for row in range(len(times)):
        total, last = 0.0, 0.0
        for frame in range(len(wanted)):
            total += times[row, frame] * wanted[frame]
        for hit in range(len(hits)):
            last += times[row, hit_frames[hit]]
        if total == 0:
            table[row] = np.nan
            continue
        seen, recall, slot, change = 0.0, 0.0, 0, 0
        sum_good, sum_boxes = 0.0, 0.0
        for hit in range(len(hits)):
            for _ in range(int(times[row, hit_frames[hit]])):
                seen += 1
                here, after = seen / total, (seen + 1) / total
                if (seen < last and after - recall < recall - here) or slot == slots:
                    continue
                while change < len(scores) and scores[change] >= hits[hit]:
                    count = times[row, change_frames[change]]
                    sum_good += count * good[change]
                    sum_boxes += count * boxes[change]
                    change += 1
                table[row, slot] = sum_good / sum_boxes if sum_boxes > 0 else 0.0
                slot += 1
                recall += 1 / 40
        for slot in range(slots - 2, -1, -1):
            table[row, slot] = max(table[row, slot], table[row, slot + 1])
    return table


class KittiAP:
    """Streaming AP of every kind, class and difficulty."""

    unit = "%"

    def __init__(self) -> None:
        self._evidence: dict[tuple[Kind, str, str], list[FrameEvidence]] = defaultdict(list)

    def update(self, truth: KittiObjects, found: KittiObjects) -> None:
        """Add one frame."""
        for key, evidence in all_evidence(truth, found):
            self._evidence[key].append(evidence)

    def value(
        self, kind: Kind | str, class_name: str, difficulty: str = "moderate", points: int = 40
    ) -> float:
        """AP in percent; NaN where nothing is wanted.

        Args:
            kind: ``2d``, ``bev``, ``3d``, or ``aos``.
            points: 40 or 11.
        """
        overlap: Any = "2d" if kind == "aos" else kind
        evidence = self._evidence[overlap, class_name, difficulty]
        pool = ap_pool(evidence, similarity=kind == "aos", points=points)
        return float(pool(np.ones((1, len(evidence))))[0])
