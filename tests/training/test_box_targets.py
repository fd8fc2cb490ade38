"""Targets of boxes: what a network that learnt them exactly would decode to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.decoding import CentreBoxes
from training.box_targets import BoxTargets, box_losses, targets_of

CONFIG = CONFIGS["pillarhist-mini"]
BOXES = np.array(
    [
        [0, 10.1, -3.3, -0.9, 4.2, 1.8, 1.5, 0.4],
        [1, 20.7, 8.2, -0.8, 0.6, 0.7, 1.8, -2.9],
        [2, 33.0, -20.0, -0.7, 1.8, 0.6, 1.7, 3.1],
        [0, 60.0, 0.0, -0.9, 4.0, 1.7, 1.5, 0.0],  # beyond the grid
    ],
    np.float32,
)


def learnt(clouds: int = 1) -> tuple[dict[str, torch.Tensor], BoxTargets]:
    """Maps that say exactly what the targets ask for, and the targets."""
    targets = targets_of([BOXES] * clouds, CONFIG)
    heat = targets["heat"].clamp(1e-6, 1 - 1e-6)
    table = torch.zeros(clouds, 8, *CONFIG.feature_size)
    cloud, row, column = targets["cells"].unbind(1)
    table[cloud, :, row, column] = targets["values"]
    names = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
    maps = dict(zip(names, torch.split(table, list(names.values()), dim=1), strict=True))
    return {**maps, "hm": torch.logit(heat)}, targets


def test_targets_decode_to_the_boxes() -> None:
    maps, _ = learnt()
    boxes, scores, classes = CentreBoxes(CONFIG, peaks=True)((maps,))
    order = torch.argsort(classes[0, :3])
    found = torch.cat([classes[0, :3, None], boxes[0, :3]], dim=1)[order].numpy()
    np.testing.assert_allclose(found, BOXES[:3], atol=1e-4)  # float32 logarithms and angles
    assert (scores[0, :3] > 0.99).all()
    assert (scores[0, 3:] < 0.99).all()


def test_what_was_learnt_exactly_costs_least() -> None:
    maps, targets = learnt(2)
    right = box_losses(maps, targets)
    assert float(right["boxes"]) == pytest.approx(0, abs=1e-6)
    shifted = {**maps, "center": maps["center"] + 0.25}
    wrong = box_losses(shifted, targets)
    assert float(wrong["boxes"]) == pytest.approx(0.5, rel=1e-5)  # 0.25 along x and along y
    assert float(wrong["heat"]) == pytest.approx(float(right["heat"]))
    blank = {**maps, "hm": torch.zeros_like(maps["hm"])}
    assert float(box_losses(blank, targets)["heat"]) > 10 * float(right["heat"])


def test_a_batch_without_boxes_has_no_box_loss() -> None:
    targets = targets_of([np.zeros((0, 8), np.float32)], CONFIG)
    maps, _ = learnt()
    losses = box_losses(maps, targets)
    assert float(losses["boxes"]) == 0
    assert torch.isfinite(losses["heat"])
