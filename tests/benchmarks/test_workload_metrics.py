"""The metrics of the trained networks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.workloads import metrics


def test_mask_iou_counts_pixels_above_the_threshold() -> None:
    a = np.array([[0.9, 0.31, 0.1, 0.2]], np.float32)
    b = np.array([[0.4, 0.29, 0.5, 0.2]], np.float32)
    assert metrics.mask_iou({"p": a}, {"p": b}, {}) == pytest.approx(1 / 3)
    assert metrics.mask_iou({"p": 0 * a}, {"p": 0 * b}, {}) == 1  # neither finds text


def test_lines_are_read_without_repeats_and_blanks() -> None:
    best = [0, 5, 5, 0, 5, 7, 7, 0, 0]
    probabilities = np.eye(10, dtype=np.float32)[best][None]
    assert metrics.read_line(probabilities) == (5, 5, 7)
    other = np.eye(10, dtype=np.float32)[[5, 0, 5, 0, 7, 0, 0, 0, 0]][None]
    assert metrics.line_equality({"s": probabilities}, {"s": other}, {}) == 1
    assert metrics.line_equality({"s": probabilities}, {"s": other[:, :3]}, {}) == 0


def page(boxes: list[tuple[int, int, int, int, int]]) -> dict[str, np.ndarray]:
    """Outputs that hold ``(row, column, class, reach in cells, level)`` with score 0.9."""
    scores, sides = [], []
    for stride in metrics.STRIDES:
        cells = int(np.prod([-(-size // stride) for size in metrics.PAGE_HW]))
        scores.append(np.zeros((1, cells, 10), np.float32))
        sides.append(np.zeros((1, cells, 32), np.float32))
    for row, column, label, reach, level in boxes:
        columns = -(-metrics.PAGE_HW[1] // metrics.STRIDES[level])
        cell = row * columns + column
        scores[level][0, cell, label] = 0.9
        sides[level].reshape(1, -1, 4, 8)[0, cell, :, reach] = 50
    arrays = [*scores, *sides]
    return {f"o{index}": array for index, array in enumerate(arrays)}


def test_boxes_are_decoded_around_their_cells() -> None:
    (box,) = metrics.decode_boxes(page([(3, 5, 2, 4, 1)]))
    x, y = 5.5 * 16, 3.5 * 16
    np.testing.assert_allclose(box, [x - 64, y - 64, x + 64, y + 64, 0.9, 2], rtol=1e-6)


def test_one_of_two_overlapping_boxes_of_a_class_is_kept() -> None:
    assert len(metrics.decode_boxes(page([(3, 5, 2, 4, 1), (3, 6, 2, 4, 1)]))) == 1
    assert len(metrics.decode_boxes(page([(3, 5, 2, 4, 1), (3, 6, 1, 4, 1)]))) == 2


def test_f1_wants_place_and_class() -> None:
    reference = page([(3, 5, 2, 4, 1), (20, 20, 3, 2, 0)])
    moved = page([(4, 5, 2, 4, 1), (20, 20, 4, 2, 0)])  # one a cell lower, one of another class
    assert metrics.box_f1(reference, reference, {}) == 1
    assert metrics.box_f1(reference, moved, {}) == pytest.approx(0.5)
    assert metrics.box_f1(page([]), page([]), {}) == 1
    assert metrics.box_f1(reference, page([]), {}) == 0
