"""Boxes of two models, counted against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.metrics.boxes.again import found_again
from deploy.metrics.boxes.from_samples import FoundBoxes
from deploy.metrics.outputs import compare_output
from deploy.metrics.pooled import metric_of_output
from exporters.modelfile import OutputSpec


def boxes(*rows: tuple[str, float, float]) -> FoundBoxes:
    """Cars or others of 4 x 2 m along x: class, x, score."""
    table = np.array([[x, 0, 0, 4, 2, 1.5, 0] for _, x, _ in rows], float).reshape(-1, 7)
    names, scores = tuple(name for name, _, _ in rows), np.array([s for *_, s in rows], float)
    return FoundBoxes(names, table, np.full((len(rows), 2), np.nan), scores)


def test_boxes_are_found_again_where_they_overlap_enough() -> None:
    reference = boxes(("Car", 10, 0.9), ("Car", 20, 0.5), ("Car", 30, 0.2))
    # 0.5 m of 4 m aside: 3.5 / 4.5 is 0.78 in common; 1 m: 3 / 5
    moved = boxes(("Car", 10.5, 0.8), ("Car", 21, 0.5), ("Car", 30, 0.05))
    assert found_again(reference, reference, 0.1) == (3, 3)
    assert found_again(reference, moved, 0.1) == (2, 3)
    assert found_again(reference, moved, 0.3) == (1, 2)
    assert found_again(reference, moved, 0.3, iou=0.5) == (2, 2)


def test_a_box_is_found_once_and_by_its_own_class() -> None:
    reference = boxes(("Car", 10, 0.9), ("Car", 10.2, 0.8))
    assert found_again(reference, boxes(("Car", 10, 0.9)), 0.1) == (1, 2)
    assert found_again(reference, boxes(("Cyclist", 10, 0.9), ("Cyclist", 10.2, 0.9)), 0.1) == (
        0,
        2,
    )
    assert found_again(reference, boxes(), 0.1) == (0, 2)
    assert found_again(boxes(), reference, 0.1) == (0, 0)


COLUMNS = ("x", "y", "z", "length", "width", "height", "yaw", "score", "class")
OUTPUT = OutputSpec("boxes", "float32", (3, 9), "boxes", {"columns": COLUMNS})


def rows(*found: tuple[float, float]) -> np.ndarray:
    """An output of three rows: cars at x with a score, then rows that are no box."""
    table = np.zeros((3, 9), np.float32)
    table[:, -1] = -1
    for row, (x, score) in zip(table, found, strict=False):
        row[:] = (x, 0, 0, 4, 2, 1.5, 0, score, 0)
    return table


def test_outputs_of_boxes_are_compared_as_lists() -> None:
    """The order of rows means nothing; a box below 0.3 is not looked for, but may be found."""
    whole = compare_output(OUTPUT, ("Car",))
    samples = [
        (rows((10, 0.9), (20, 0.5)), rows((20, 0.28), (10, 0.27), (40, 0.2))),
        (rows((10, 0.9), (20, 0.2)), rows((20, 0.8), (30, 0.7))),
        (rows(), rows()),
    ]
    counts = []
    for reference, candidate in samples:
        alone = compare_output(OUTPUT, ("Car",))
        alone.update(reference, candidate)
        counts.append(alone.rows()["recall"])
        whole.merge(alone)
    assert counts == [(2, 2), (0, 1), (0, 0)]
    assert whole.metrics() == {"recall": pytest.approx(2 / 3), "precision": 0.5}
    names = ["a", "b", "c"]
    paired = metric_of_output("recall", "boxes", np.array(counts, float), names, 2 / 3)
    assert paired.reference == 1
    assert paired.loss == pytest.approx(1 / 3)
