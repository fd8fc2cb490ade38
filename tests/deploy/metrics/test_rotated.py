"""Clipped rectangles against shapely's polygons and against areas known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.metrics.boxes.rotated import clip, intersection_areas, rotated_iou


def polygon(row: np.ndarray):
    affinity, geometry = (pytest.importorskip(f"shapely.{n}") for n in ("affinity", "geometry"))
    x, y, length, width, angle = row
    box = geometry.box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(box, angle, (0, 0), use_radians=True), x, y)


def random_rows(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.c_[
        rng.uniform(-4, 4, (count, 2)),
        rng.uniform(0.2, 6, (count, 2)),
        rng.uniform(-7, 7, count),
    ]
    aligned = rng.random(count) < 0.3  # edges that lie on edges
    rows[aligned] = np.round(rows[aligned])
    rows[aligned, 2:4] = np.maximum(rows[aligned, 2:4], 1)
    rows[aligned, 4] = rng.integers(-4, 5, aligned.sum()) * math.pi / 2
    return rows


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_areas_are_those_of_polygons(seed):
    first, second = random_rows(seed, 6), random_rows(seed + 1, 7)
    expected = [[polygon(a).intersection(polygon(b)).area for b in second] for a in first]
    # float64 of areas up to 36: a few rounding errors
    assert intersection_areas(first, second) == pytest.approx(np.array(expected), abs=1e-10)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(-1000, 1000), st.floats(-7, 7))
def test_nothing_changes_when_all_is_moved_and_turned(seed, shift, turn):
    first, second = random_rows(seed, 4), random_rows(seed + 1, 4)
    cos, sin = math.cos(turn), math.sin(turn)
    moved = []
    for rows in (first, second):
        rows = rows.copy()
        rows[:, :2] = rows[:, :2] @ [[cos, sin], [-sin, cos]] + shift
        rows[:, 4] += turn
        moved.append(rows)
    # coordinates of 1000 have a spacing of 1e-13, edges are up to 6 m
    assert rotated_iou(*moved) == pytest.approx(rotated_iou(first, second), abs=1e-10)
    assert rotated_iou(first, second) == pytest.approx(rotated_iou(second, first).T, abs=1e-12)
    assert np.diag(rotated_iou(first, first)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("second", "area"),
    [
        ((0, 0, 2, 2, math.pi / 4), 8 * (math.sqrt(2) - 1)),  # two squares make an octagon
        ((2, 0, 2, 2, 0), 0.0),  # edge on edge
        ((1, 1, 2, 2, 0), 1.0),
        ((0, 0, 1, 0.5, 1.0), 0.5),  # inside
        ((0, 0, 9, 9, 0.3), 4.0),  # around
        ((0, 0, 0, 0, 0), 0.0),
    ],
)
def test_areas_by_hand(second, area):
    assert intersection_areas([(0, 0, 2, 2, 0)], [second])[0, 0] == pytest.approx(area)


def test_machine_code_says_what_python_says():
    rows = random_rows(3, 5), random_rows(4, 5)
    assert intersection_areas(*rows) == pytest.approx(clip(*rows), abs=1e-13)


def test_no_boxes_give_an_empty_table():
    assert rotated_iou(np.zeros((0, 5)), random_rows(0, 3)).shape == (0, 3)
