"""What the three networks are judged by, INT8 against FP32 on the same input.

    mask_iou       share of the pixels that either calls text (p > 0.3) that both call text
    line_equality  1 where the greedy CTC reading is the same, character by character
    box_f1         F1 of the boxes, a match being of one class with IoU of at least 0.5

Each takes ``(reference_outputs, candidate_outputs, sample)`` and gives a number, 1 at best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]

TEXT_PROBABILITY = 0.3
SCORE, OVERLAP = 0.4, 0.5
STRIDES = (8, 16, 32, 64)
PAGE_HW = (800, 608)
MOST_BOXES, CANDIDATES = 100, 1000


def mask_iou(reference: Outputs, candidate: Outputs, sample: Outputs) -> float:  # noqa: ARG001
    (a,), (b,) = reference.values(), candidate.values()
    a, b = a > TEXT_PROBABILITY, b > TEXT_PROBABILITY
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else 1.0


def line_equality(reference: Outputs, candidate: Outputs, sample: Outputs) -> float:  # noqa: ARG001
    (a,), (b,) = reference.values(), candidate.values()
    return float(read_line(a) == read_line(b))


def read_line(probabilities: NDArray[Any]) -> tuple[int, ...]:
    """Greedy CTC: the likeliest class of each step, repeats merged, blanks (0) dropped."""
    best = probabilities[0].argmax(axis=-1)
    changed = np.concatenate([[True], best[1:] != best[:-1]])
    return tuple(int(c) for c in best[changed] if c)


def box_f1(reference: Outputs, candidate: Outputs, sample: Outputs) -> float:  # noqa: ARG001
    """Where neither finds a box they agree: 1."""
    found, expected = decode_boxes(candidate), decode_boxes(reference)
    if not len(found) and not len(expected):
        return 1.0
    return 2 * matches(expected, found) / (len(found) + len(expected))


def matches(expected: NDArray[Any], found: NDArray[Any]) -> int:
    """Boxes that are matched one to one, those with the highest score first."""
    free = np.ones(len(expected), bool)
    count = 0
    for box in found:
        overlap = np.where(free & (expected[:, 5] == box[5]), _iou(box[:4], expected[:, :4]), 0.0)
        if len(overlap) and overlap.max() >= OVERLAP:
            free[overlap.argmax()] = False
            count += 1
    return count


def decode_boxes(outputs: Outputs) -> NDArray[np.float64]:
    """``[n, 6]``: left, top, right, bottom, score, class; per class NMS, best score first.

    The outputs are four maps of class scores ``[1, cells, classes]`` and four of box sides, each a
    distribution over 8 distances of one stride (generalised focal loss).
    """
    maps = list(outputs.values())
    boxes, scores = [], []
    for stride, score, sides in zip(STRIDES, maps[:4], maps[4:], strict=True):
        rows, columns = (-(-size // stride) for size in PAGE_HW)
        y, x = np.divmod(np.arange(rows * columns), columns)
        centres = (np.stack([x, y, x, y], axis=1) + 0.5) * stride
        bins = sides[0].reshape(-1, 4, sides.shape[-1] // 4).astype(np.float64)
        share = np.exp(bins - bins.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        reach = (share * np.arange(share.shape[-1])).sum(axis=-1) * stride
        boxes.append(centres + np.array([-1, -1, 1, 1]) * reach)
        scores.append(score[0])
    box, score = np.concatenate(boxes), np.concatenate(scores)
    kept = [_suppressed(box, score[:, c], c) for c in range(score.shape[1])]
    all_boxes = np.concatenate(kept)
    return all_boxes[np.argsort(-all_boxes[:, 4], kind="stable")][:MOST_BOXES]


def _suppressed(boxes: NDArray[Any], scores: NDArray[Any], label: int) -> NDArray[np.float64]:
    chosen = np.flatnonzero(scores > SCORE)
    order = chosen[np.argsort(-scores[chosen], kind="stable")][:CANDIDATES]
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append([*boxes[first], scores[first], label])
        order = order[_iou(boxes[first], boxes[order]) <= OVERLAP]
    return np.array(kept, np.float64).reshape(-1, 6)


def _iou(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:4], others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    return np.asarray(shared / (np.prod(box[2:4] - box[:2]) + areas - shared + 1e-9))
