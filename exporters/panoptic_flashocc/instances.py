"""Centres and nearest-centre assignment as a graph of fixed shapes and standard operators.

The same function as ``exporters.panoptic_flashocc.centres``, where the formulas are. Two steps make
it cheap:

*Compaction.* One voxel in fifty belongs to a thing. Running sums number the thing voxels, a
scatter writes their positions into a list of fixed length, and a gather brings results back.

*Distances by one matrix product.* ``|v - c|^2`` without ``|v|^2``, which no choice depends on, plus
a penalty where the class differs or the centre does not count::

    [x, y, z, 512, 1, 1, class one-hot] @ [-2 cx, -2 cy, -2 cz, high, low, invalid, other class]^T

with ``|c|^2 = 512 high + low``. All factors are integers of at most ten bits or powers of two, so
the sums are exact in float32 and also where a GPU multiplies in TF32.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.flashocc.config import Config
from exporters.panoptic_flashocc.centre_head import CentreMaps
from exporters.panoptic_flashocc.centres import CentreRules, thing_channels

_OTHER_CLASS = float(1 << 20)  # larger than any squared distance
_INVALID = float(1 << 21)
_SPLIT = 512.0


class Instances(nn.Module):
    """Labels ``[nz, ny, nx]`` int64 and centre maps to instances ``[nz, ny, nx]`` int32."""

    def __init__(self, config: Config, rules: CentreRules) -> None:
        super().__init__()
        self.centres = CentreFeatures(config, rules)
        self.compact = ThingVoxels(config, rules)

    def forward(self, labels: Tensor, maps: CentreMaps) -> Tensor:
        features, classes_present = self.centres(maps)
        slot, voxels, things = self.compact(labels)
        nearest = (voxels @ features).argmin(1).to(torch.float32) + 1
        found = nearest * (things @ classes_present)  # a class without centres has no instance
        table = torch.cat([found, found.new_zeros(1)])[:, None]
        return F.embedding(slot, table).reshape(labels.shape).to(torch.int32)


class CentreFeatures(nn.Module):
    """Centre maps to one column for each of the best centres, and which things have a centre.

    Returns ``[6 + things, centres]`` and ``[things]``, 0 or 1.
    """

    def __init__(self, config: Config, rules: CentreRules) -> None:
        super().__init__()
        self.grid, self.rules = config.grid, rules
        labels = thing_channels(config.classes, rules.class_map)
        one_hot = labels[:, None] == np.unique(labels[labels >= 0])
        self.register_buffer("kind", torch.from_numpy(one_hot.astype(np.float32)), persistent=False)
        axes = np.array([config.grid.x, config.grid.y, config.grid.z_out], np.float32)
        for name, column in (("low", 0), ("step", 2)):
            self.register_buffer(name, torch.from_numpy(axes[:, column].copy()), persistent=False)
        self.register_buffer("range", torch.tensor(rules.range_m), persistent=False)
        self.peak = nn.MaxPool2d(3, 1, 1)

    def forward(self, maps: CentreMaps) -> tuple[Tensor, Tensor]:
        scores = maps.heatmap.sigmoid()
        peaks = torch.where(self.peak(scores) == scores, scores, 0.0)
        count = min(self.rules.max_centres, peaks.numel())
        best, flat = peaks.reshape(-1).topk(count)

        position, cells, width = flat.to(torch.float32), self.grid.cells, self.grid.nx
        channel = _quotient(position, cells)
        cell = position - channel * cells
        row = _quotient(cell, width)
        columns = torch.cat([maps.reg, maps.height], dim=1).reshape(3, cells).permute(1, 0)
        offset = F.embedding(cell.to(torch.int32), columns)
        low, step = self.get_buffer("low"), self.get_buffer("step")
        plane = (torch.stack([cell - row * width, row], 1) + offset[:, :2]) * step[:2] + low[:2]
        metres = torch.cat([plane, offset[:, 2:]], dim=1)
        inside = (metres.abs() <= self.get_buffer("range")).to(torch.float32).amin(1)
        valid = inside * (best > self.rules.score_threshold).to(torch.float32)

        kind = F.embedding(channel.to(torch.int32), self.get_buffer("kind"))
        voxel = ((metres - low) / step).to(torch.int32).to(torch.float32)  # toward zero
        square = (voxel * voxel).sum(1)
        high = (square / _SPLIT).floor()
        rows = [high, square - high * _SPLIT, (1 - valid) * _INVALID]
        features = torch.cat([-2.0 * voxel, torch.stack(rows, 1), (1 - kind) * _OTHER_CLASS], dim=1)
        return features.permute(1, 0), (kind * valid[:, None]).amax(0)


class ThingVoxels(nn.Module):
    """Labels to a list of thing voxels.

    Returns where each voxel of ``labels`` stands in the list, int64 ``[nz * ny * nx]`` (the last
    index means nowhere), the rows ``[length, 6 + things]`` for the matrix product and their last
    columns, the class one-hot ``[length, things]``.
    """

    def __init__(self, config: Config, rules: CentreRules) -> None:
        super().__init__()
        grid = config.grid
        self.rows, self.width, self.layer = grid.nz_out * grid.ny, grid.nx, grid.cells
        self.voxels = grid.cells * grid.nz_out
        self.length = min(rules.thing_voxels, self.voxels)
        labels = thing_channels(config.classes, rules.class_map)
        one_hot = np.arange(len(config.classes))[:, None] == np.unique(labels[labels >= 0])
        kind = torch.from_numpy(one_hot.astype(np.float32))
        self.register_buffer("kind", kind, persistent=False)
        self.register_buffer("is_thing", kind.amax(1, keepdim=True), persistent=False)
        self.register_buffer("position", torch.arange(float(self.voxels)), persistent=False)
        self.register_buffer("ones", torch.tensor([[_SPLIT, 1.0, 1.0]]), persistent=False)

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = labels.reshape(-1)
        slot = self._slots(F.embedding(flat, self.get_buffer("is_thing")))
        # TensorRT takes no more indices than there are places, so the list is cut afterwards
        listed = torch.zeros(self.voxels + 1, device=flat.device)
        listed = listed.scatter(0, slot, self.get_buffer("position"))[: self.length]
        layer = _quotient(listed, self.layer)
        rest = listed - layer * self.layer
        row = _quotient(rest, self.width)
        label = F.embedding(listed.to(torch.int32), flat.to(torch.float32)[:, None])
        things = F.embedding(label.reshape(-1).to(torch.int32), self.get_buffer("kind"))
        place = torch.stack([rest - row * self.width, row, layer], dim=1)
        ones = self.get_buffer("ones").expand(self.length, -1)
        return slot, torch.cat([place, ones, things], dim=1), things

    def _slots(self, mask: Tensor) -> Tensor:
        """Running number of every thing voxel, ``self.length`` for the others."""
        by_row = mask.reshape(self.rows, self.width)
        within = by_row.cumsum(1)
        totals = within[:, -1]
        before = totals.cumsum(0) - totals
        number = within + before[:, None] - 1
        listed = (by_row > 0) & (number < self.length)
        return torch.where(listed, number, float(self.length)).reshape(-1).to(torch.int64)


def _quotient(value: Tensor, divisor: int) -> Tensor:
    """Integer quotient of whole numbers below 2^22 in float32; half a step away from rounding."""
    return ((value + 0.5) * (1.0 / divisor)).floor()
