"""Losses of the miniatures against loops over single voxels, pixels and boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from exporters.flashocc.config import OCC3D_CLASSES
from exporters.flashocc.geometry import Grid, View
from exporters.panoptic_flashocc.config import HEAD_CLASSES
from training.losses import (
    HEATMAP_CLASSES,
    centre_loss,
    centre_targets,
    class_weights,
    depth_loss,
    occupancy_loss,
)

GRID = Grid()


def test_heatmap_channels_are_those_of_the_head() -> None:
    assert tuple(OCC3D_CLASSES[label] for label in HEATMAP_CLASSES) == HEAD_CLASSES


def test_occupancy_loss_is_a_weighted_mean_over_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, 5, generator=generator)
    truth = torch.randint(0, 5, (3, 4, 2), generator=generator)
    mask = torch.rand(3, 4, 2, generator=generator) < 0.5
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])
    above = below = 0.0
    for x, y, z in np.ndindex(3, 4, 2):
        if mask[x, y, z]:
            row, label = logits[x, y, z].double(), int(truth[x, y, z])
            above -= float(weights[label] * (row[label] - row.logsumexp(0)))
            below += float(weights[label])
    found = occupancy_loss(logits, truth, mask, weights)
    assert float(found) == pytest.approx(above / below, rel=1e-5)  # float32 sums


def test_depth_loss_counts_what_lies_within_the_bins() -> None:
    view = View(image_size=(32, 32), depth=(1.0, 9.0, 2.0))
    probabilities = torch.softmax(torch.randn(2, 4, 2, 2), dim=1)
    depth = torch.tensor([[[0.5, 1.0], [4.9, 5.0]], [[8.9, 9.0], [math.inf, 7.0]]])
    expected, count = 0.0, 0
    for camera, row, column in np.ndindex(2, 2, 2):
        metres = float(depth[camera, row, column])
        if 1.0 <= metres < 9.0:
            right = int((metres - 1.0) // 2.0)
            for place in range(4):
                p = float(probabilities[camera, place, row, column])
                expected -= math.log(p if place == right else 1 - p)
            count += 1
    assert count == 5
    assert float(depth_loss(probabilities, depth, view)) == pytest.approx(expected / count, 1e-4)
    nothing = depth_loss(probabilities, torch.full_like(depth, math.inf), view)
    assert float(nothing) == 0


def test_centres_are_drawn_where_boxes_stand() -> None:
    boxes = torch.tensor(
        [[4, 10.1, -3.9, 0.8, 4.5, 1.9, 1.6, 0.3], [7, -39.9, 39.9, 0.9, 0.6, 0.6, 1.8, 0.0],
         [4, 50.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0]]
    )  # fmt: skip
    heatmap, cells, values = centre_targets(boxes, GRID)
    assert heatmap.shape == (10, 200, 200)
    assert cells.tolist() == [[90, 125], [199, 0]]  # row is y, column is x; the third is outside
    assert heatmap[0, 90, 125] == heatmap[8, 199, 0] == 1
    assert (heatmap == 1).sum() == 2
    np.testing.assert_allclose(values[0], [0.25, 0.25, 0.8], atol=1e-3)
    assert heatmap[0, 90, 123] == heatmap[0, 92, 125] == heatmap[0, 88, 125]  # round
    assert 0 < heatmap[0, 90, 123] < 1


def test_a_right_centre_map_costs_nothing() -> None:
    boxes = torch.tensor([[4, 10.1, -3.9, 0.8, 4.5, 1.9, 1.6, 0.3]])
    truth, cells, values = centre_targets(boxes, GRID)
    row, column = cells[0]
    offset, height = torch.zeros(2, 200, 200), torch.zeros(1, 200, 200)
    offset[:, row, column], height[0, row, column] = values[0, :2], values[0, 2]
    sure = torch.where(truth == 1, 20.0, -20.0)
    assert float(centre_loss(sure, offset, height, boxes, GRID)) < 1e-3
    missed = centre_loss(torch.full_like(sure, -20.0), offset, height, boxes, GRID)
    assert float(missed) == pytest.approx(-math.log(1e-4) * (1 - 1e-4) ** 2, rel=1e-3)
    high = centre_loss(sure, offset, height + 4.0, boxes, GRID)
    assert float(high) == pytest.approx(1.0, abs=1e-3)  # a quarter of four metres
    none = centre_loss(sure.fill_(-20.0), offset, height, boxes[:0], GRID)
    assert float(none) < 1e-3


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(torch.tensor([100, 10_000, 0]), 0.5)
    np.testing.assert_allclose(weights, [10.0, 1.0, 30.0])
