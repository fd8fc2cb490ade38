"""What a centre head of boxes learns: Gaussian focal loss on heat maps, L1 where centres are.

    heat   -1/n sum (1-p)^2 log p at centres, (1-y)^4 p^2 log(1-p) elsewhere      y: Gaussian peaks
    boxes  1/n sum |offset, z, log sizes, cos yaw, sin yaw - truth|

As in CenterPoint (arXiv:2006.11275; CornerNet, arXiv:1808.01244).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from numpy.typing import NDArray
from torch import Tensor

from exporters.pillarhist.config import CentreHead, Config
from training.losses import draw_peak, gaussian_focal_loss, gaussian_radius

_OVERLAP = 0.1
_LEAST_RADIUS = 2
_BRANCHES = ("center", "center_z", "dim", "rot")


class BoxTargets(TypedDict):
    """Of a batch.

    Attributes:
        heat: ``[B, classes, h, w]``, 1 at centres.
        cells: int64 ``[m, 3]``: cloud, row, column of each centre.
        values: ``[m, 8]``: offset in cells along x and y, z, log sizes, cos and sin of the yaw.
    """

    heat: Tensor
    cells: Tensor
    values: Tensor


def targets_of(boxes: Sequence[NDArray[Any]], config: Config) -> BoxTargets:
    """Targets of clouds whose boxes are ``[m, 8]``: class, centre, sizes, yaw; metres, radians."""
    assert isinstance(config.head, CentreHead)
    assert len(config.head.tasks) == 1  # one sub-head for all classes
    rows, columns = config.feature_size
    step = [size * config.backbone.stride for size in config.grid.cell]
    heat = torch.zeros(len(boxes), len(config.classes), rows, columns)
    cells, values = [], []
    for cloud, table in enumerate(boxes):
        for label, x, y, z, length, width, height, yaw in table.tolist():
            across, along = (x - config.grid.low[0]) / step[0], (y - config.grid.low[1]) / step[1]
            if not (0 <= across < columns and 0 <= along < rows):
                continue
            column, row = int(across), int(along)
            radius = gaussian_radius(length / step[0], width / step[1], _OVERLAP)
            draw_peak(heat[cloud, int(label)], row, column, max(_LEAST_RADIUS, radius))
            cells.append((cloud, row, column))
            sizes = (math.log(length), math.log(width), math.log(height))
            offset = (across - column, along - row)
            values.append((*offset, z, *sizes, math.cos(yaw), math.sin(yaw)))
    return {
        "heat": heat,
        "cells": torch.tensor(cells, dtype=torch.long).reshape(-1, 3),
        "values": torch.tensor(values, dtype=torch.float32).reshape(-1, 8),
    }


def box_losses(maps: Mapping[str, Tensor], targets: BoxTargets) -> dict[str, Tensor]:
    """``heat`` and ``boxes``, means over the centres of a batch.

    Args:
        maps: of the head, ``[B, channels, h, w]``; ``hm`` are logits.
    """
    heat = gaussian_focal_loss(maps["hm"], targets["heat"])
    guess = torch.cat([maps[name] for name in _BRANCHES], dim=1).float()
    cloud, row, column = targets["cells"].unbind(dim=1)
    wrong = (guess[cloud, :, row, column] - targets["values"]).abs().sum()
    return {"heat": heat, "boxes": wrong / max(1, len(cloud))}
