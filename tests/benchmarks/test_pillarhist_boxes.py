"""Boxes out of maps, and their overlap, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pillarhist_boxes import Array, bev_iou, boxes, closeness, compare

BOX = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.just(0.0), st.floats(0.5, 5), st.floats(0.5, 3),
    st.just(1.5), st.floats(-4, 4), st.just(1.0),
).map(np.array)  # fmt: skip


def maps(*cars: tuple[int, int, float]) -> dict[str, Array]:
    """Outputs with cars of 4 x 2 x 1.5 m that look along y, at (row, column, score)."""
    heatmap = np.zeros((1, 1, 124, 108), np.float32)
    box = np.zeros((1, 8, 124, 108), np.float32)
    box[0, :2] = 0.5
    box[0, 3:6] = np.log([4, 2, 1.5])[:, None, None]
    box[0, 7] = 2.0
    for row, column, score in cars:
        heatmap[0, 0, row, column] = score
    return {"heatmap": heatmap, "box": box}


@given(BOX, BOX)
def test_overlap_is_the_share_of_points_in_both(a: Array, b: Array) -> None:
    axis = np.linspace(-7, 7, 281)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    in_a, in_b = _inside(points, a), _inside(points, b)
    expected = (in_a & in_b).sum() / max((in_a | in_b).sum(), 1)
    # a cell of 0.05 m at either side of the outline: at most 0.12 of a union of 0.25 m2 or more
    assert abs(bev_iou(a, b) - expected) < 0.12
    assert abs(bev_iou(a, b) - bev_iou(b, a)) < 1e-9  # rounding of the clipped corners
    assert abs(bev_iou(a, a) - 1) < 1e-9


def _inside(points: Array, box: Array) -> Array:
    cos, sin = np.cos(box[6]), np.sin(box[6])
    x, y = (points - box[:2]).T
    along, across = cos * x + sin * y, cos * y - sin * x
    return (np.abs(along) <= box[3] / 2) & (np.abs(across) <= box[4] / 2)


def test_a_peak_becomes_the_box_that_its_cell_holds() -> None:
    found = boxes(maps((62, 50, 0.8), (20, 20, 0.29)), 0.3)
    expected = [0.64 * 50.5, -39.68 + 0.64 * 62.5, 0, 4, 2, 1.5, np.pi / 2, 0.8]
    assert np.allclose(found, [expected], atol=1e-5)  # float32 maps
    assert len(boxes(maps((62, 50, 0.8), (20, 20, 0.29)), 0.2)) == 2


def test_neighbours_and_overlaps_of_a_peak_are_not_boxes() -> None:
    assert len(boxes(maps((62, 50, 0.8), (63, 51, 0.7)), 0.3)) == 1  # no peak
    assert len(boxes(maps((62, 50, 0.8), (64, 50, 0.7)), 0.3)) == 1  # 1.28 m further: overlaps
    assert len(boxes(maps((62, 50, 0.8), (72, 50, 0.7)), 0.3)) == 2


def test_lost_and_invented_boxes_are_counted() -> None:
    fp32 = boxes(maps((62, 50, 0.8), (20, 20, 0.5)), 0.3)
    int8 = boxes(maps((62, 50, 0.7), (20, 90, 0.4), (100, 60, 0.4)), 0.3)
    agreement = compare(fp32, int8)
    assert (agreement.matched, agreement.reference, agreement.extra) == (1, 2, 2)
    assert compare(fp32, boxes(maps(), 0.3)).matched == 0


def test_closeness_moves_with_scores_and_places() -> None:
    fp32 = maps((62, 50, 0.8), (20, 20, 0.5))
    assert abs((closeness(fp32, fp32, {}) or 0) - 1) < 1e-9  # clipping rounds
    assert abs((closeness(fp32, maps((62, 50, 0.7), (20, 20, 0.5)), {}) or 0) - 0.95) < 1e-6
    assert abs((closeness(fp32, maps((62, 50, 0.8)), {}) or 0) - 0.5) < 1e-6
    assert closeness(maps(), fp32, {}) is None
