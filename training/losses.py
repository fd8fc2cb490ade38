"""What the miniatures learn from: occupancy, depth, and centres of instances.

    occupancy   sum_v m_v w_{c(v)} CE(v) / sum_v m_v w_{c(v)}       m: seen by some camera
    depth       sum over bins of BCE(softmax, one-hot), mean over pixels that show a surface
    centres     Gaussian focal loss on a heatmap a class, L1 on offset and height at the centres

FlashOcc trains with the first (arXiv:2311.12058), BEVDepth adds the second (arXiv:2206.10092),
Panoptic-FlashOcc the third (arXiv:2406.10527; CornerNet, arXiv:1808.01244).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from exporters.flashocc.geometry import Grid, View

HEATMAP_CLASSES = (4, 10, 5, 3, 9, 1, 6, 2, 7, 8)
"""Occupancy class of each channel of the centre head's heatmap: car, truck, construction vehicle,
bus, trailer, barrier, motorcycle, bicycle, pedestrian, traffic cone."""

_EPSILON = 1e-6
_LARGEST_WEIGHT = 30.0


def class_weights(counts: Tensor, power: float = 0.5) -> Tensor:
    """Weights that rise as classes get rarer, ``(most frequent / count) ** power``, bounded.

    Args:
        counts: visible voxels of each class, ``[classes]``.
    """
    share = counts.clamp(min=1).double()
    return ((share.max() / share) ** power).clamp(max=_LARGEST_WEIGHT).float()


def occupancy_loss(logits: Tensor, semantics: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy over the voxels of ``mask``.

    Args:
        logits: ``[..., classes]``.
        semantics: int64 of the shape before the last axis.
        mask: bool of the same shape.
        weights: ``[classes]``.
    """
    chosen = mask.reshape(-1).nonzero().squeeze(1)
    rows = logits.reshape(-1, logits.shape[-1]).index_select(0, chosen)
    truth = semantics.reshape(-1).index_select(0, chosen)
    return F.cross_entropy(rows.float(), truth, weights)


def depth_loss(probabilities: Tensor, depth: Tensor, view: View) -> Tensor:
    """Binary cross-entropy of every depth bin against the bin of the nearest surface.

    Args:
        probabilities: ``[N, bins, fH, fW]``, sum over bins is 1.
        depth: metres ``[N, fH, fW]``; what is farther than the last bin does not count.
    """
    low, _, step = view.depth
    bins = torch.floor((depth.float() - low) / step)
    seen = (bins >= 0) & (bins < view.depth_bins)
    rows = probabilities.permute(0, 2, 3, 1)[seen].float().clamp(_EPSILON, 1 - _EPSILON)
    truth = F.one_hot(bins[seen].long(), view.depth_bins).float()
    if not len(rows):
        return probabilities.sum() * 0
    return F.binary_cross_entropy(rows, truth, reduction="sum") / len(rows)


def centre_targets(boxes: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Heatmaps and regression targets of the centre head.

    Args:
        boxes: ``[n, 8]``: occupancy class, centre x, y, z, length, width, height, yaw.

    Returns:
        Heatmap ``[10, ny, nx]``; cells ``[m, 2]`` (row, column) and values ``[m, 3]`` (offset of
        the centre in its cell, in cells along x and y; height of the centre, metres) of the m
        centres in the grid.
    """
    heatmap = torch.zeros(len(HEATMAP_CLASSES), grid.ny, grid.nx)
    cells, values = [], []
    for label, x, y, z, length, width, *_ in boxes.tolist():
        across, along = (x - grid.x[0]) / grid.x[2], (y - grid.y[0]) / grid.y[2]
        column, row = int(across), int(along)
        if not (0 <= across < grid.nx and 0 <= along < grid.ny):
            continue
        radius = max(2, gaussian_radius(length / grid.x[2], width / grid.y[2]))
        draw_peak(heatmap[HEATMAP_CLASSES.index(int(label))], row, column, radius)
        cells.append((row, column))
        values.append((across - column, along - row, z))
    return (
        heatmap,
        torch.tensor(cells, dtype=torch.long).reshape(-1, 2),
        torch.tensor(values, dtype=torch.float32).reshape(-1, 3),
    )


def centre_loss(
    heatmap: Tensor, offset: Tensor, height: Tensor, boxes: Tensor, grid: Grid
) -> Tensor:
    """Gaussian focal loss plus a quarter of the L1 loss of offset and height.

    Args:
        heatmap: logits ``[10, ny, nx]``.
        offset: ``[2, ny, nx]``.
        height: ``[1, ny, nx]``.
        boxes: see :func:`centre_targets`.
    """
    truth, cells, values = (item.to(heatmap.device) for item in centre_targets(boxes, grid))
    focal = gaussian_focal_loss(heatmap, truth)
    if not len(cells):
        return focal
    guess = torch.cat([offset, height]).float()[:, cells[:, 0], cells[:, 1]].T
    return focal + 0.25 * (guess - values).abs().sum(1).mean()


def gaussian_focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Focal loss of heatmaps, per centre: cells near one count the less, the nearer they are.

    Args:
        logits: of any shape.
        truth: of the same shape, 1 at centres and falling around them.
    """
    score = logits.float().sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = truth.eq(1).float()
    hit = positive * (1 - score) ** 2 * score.log()
    miss = (1 - positive) * (1 - truth) ** 4 * score**2 * (1 - score).log()
    return -(hit + miss).sum() / positive.sum().clamp(min=1)


def gaussian_radius(length: float, width: float, overlap: float = 0.1) -> int:
    """Cells by which a box's corners may shift and still overlap the box by ``overlap``."""
    total, area = length + width, length * width
    root = total**2 - 4 * area * (1 - overlap) / (1 + overlap)
    one = (total + root**0.5) / 2
    two = (2 * total + (4 * total**2 - 16 * (1 - overlap) * area) ** 0.5) / 2
    three = (
        -2 * overlap * total
        + (4 * overlap**2 * total**2 + 16 * overlap * (1 - overlap) * area) ** 0.5
    ) / 2
    return int(min(one, two, three))


def draw_peak(heatmap: Tensor, row: int, column: int, radius: int) -> None:
    """The larger of ``heatmap`` and a Gaussian peak of height 1, in place."""
    rows, columns = heatmap.shape
    sigma = (2 * radius + 1) / 6
    top, bottom = max(0, row - radius), min(rows, row + radius + 1)
    left, right = max(0, column - radius), min(columns, column + radius + 1)
    y = torch.arange(top, bottom).float()[:, None] - row
    x = torch.arange(left, right).float()[None, :] - column
    peak = torch.exp(-(x * x + y * y) / (2 * sigma * sigma))
    area = heatmap[top:bottom, left:right]
    torch.maximum(area, peak, out=area)
