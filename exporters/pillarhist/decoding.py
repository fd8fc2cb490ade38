"""From the maps of a head to rows of boxes, in the graph.

Rows are ``x y z length width height yaw [vx vy] score class``, best score first; rows that are no
box have score 0 and class -1. Maps are never transposed: a candidate's numbers are gathered by
their flat index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from exporters.pillarhist.config import AnchorHead, CentreHead, Config
from exporters.pillarhist.suppression import Suppression

_FLAT = (0, 1, 3, 4, 6)  # x, y, length, width, yaw of a box
_SMALL = 1e-20


def atan2(y: Tensor, x: Tensor) -> Tensor:
    """In all quadrants and on the axes, from ``Atan``; 0 at the origin. ONNX has no Atan2."""
    angle = torch.atan(y / torch.where(x == 0, _SMALL, x))
    half = torch.where(y >= 0, math.pi, -math.pi)
    return torch.where(x < 0, angle + half, angle)


class AnchorBoxes(nn.Module):
    """The best anchors of the whole map, decoded.

    Residuals are of SECOND: places in units of the anchor's diagonal and height, sizes as
    logarithms, yaw added to the anchor's and turned into the half of the circle that the direction
    classifier chose. A candidate has its best class alone, as upstream's class-agnostic
    suppression has it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert isinstance(config.head, AnchorHead)
        self.config, self.head = config, config.head
        self.register_buffer("sizes", torch.tensor([a.size for a in self.head.anchors]), False)
        bottoms = [anchor.bottom + anchor.size[2] / 2 for anchor in self.head.anchors]
        self.register_buffer("heights", torch.tensor(bottoms), False)
        self.register_buffer("turns", torch.tensor(self.head.rotations), False)
        for name, axis, cells in (
            ("xs", 0, config.feature_size[1]),
            ("ys", 1, config.feature_size[0]),
        ):
            low, high = config.grid.low[axis], config.grid.high[axis]
            self.register_buffer(name, self._places(low, high, cells), False)

    def _places(self, low: float, high: float, cells: int) -> Tensor:
        """Of anchors along one axis, metres."""
        if self.head.middles:
            return low + (high - low) / cells * (torch.arange(cells) + 0.5)
        return low + (high - low) / (cells - 1) * torch.arange(cells)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``[1, K, 7]``, scores ``[1, K]``, classes ``[1, K]``; best first."""
        cls, box, direction = (value.reshape(-1) for value in maps)
        rows, columns = self.config.feature_size
        cells, anchors = rows * columns, self.head.per_cell
        logits = cls.reshape(anchors, -1, cells)
        count = min(self.config.candidates, anchors * cells)
        best, place = torch.topk(logits.amax(dim=1).reshape(-1), count)
        anchor, cell = place // cells, place % cells
        kinds = torch.arange(len(self.head.anchors))[None]
        classes = cls[(anchor[:, None] * kinds.shape[1] + kinds) * cells + cell[:, None]]
        terms = box[(anchor[:, None] * 7 + torch.arange(7)[None]) * cells + cell[:, None]]
        ways = direction[(anchor[:, None] * 2 + torch.arange(2)[None]) * cells + cell[:, None]]
        boxes = self._decoded(terms, ways, anchor, cell)
        return boxes[None], torch.sigmoid(best)[None], classes.argmax(dim=1).float()[None]

    def _decoded(self, terms: Tensor, ways: Tensor, anchor: Tensor, cell: Tensor) -> Tensor:
        columns, turns = self.config.feature_size[1], len(self.head.rotations)
        kind = anchor // turns
        size = self.get_buffer("sizes")[kind]
        diagonal = torch.sqrt(size[:, 0] * size[:, 0] + size[:, 1] * size[:, 1])
        x = terms[:, 0] * diagonal + self.get_buffer("xs")[cell % columns]
        y = terms[:, 1] * diagonal + self.get_buffer("ys")[cell // columns]
        z = terms[:, 2] * size[:, 2] + self.get_buffer("heights")[kind]
        sizes = torch.exp(terms[:, 3:6]) * size
        offset = self.head.direction_offset
        yaw = terms[:, 6] + self.get_buffer("turns")[anchor % turns] - offset
        yaw = yaw - torch.floor(yaw / math.pi) * math.pi + offset
        yaw = yaw + torch.where(ways[:, 1] > ways[:, 0], math.pi, 0.0)
        return torch.cat([x[:, None], y[:, None], z[:, None], sizes, yaw[:, None]], dim=1)


class CentreBoxes(nn.Module):
    """The highest places of each sub-head's heat maps, decoded.

    Args:
        peaks: take only places that are the highest of their 3 x 3 cells.
    """

    def __init__(self, config: Config, *, peaks: bool) -> None:
        super().__init__()
        assert isinstance(config.head, CentreHead)
        self.config, self.head = config, config.head
        self.peaks = peaks
        self.highest = nn.MaxPool2d(3, stride=1, padding=1)
        self.register_buffer("low", torch.tensor(self.head.centre_low), False)
        self.register_buffer("high", torch.tensor(self.head.centre_high), False)

    def forward(self, maps: tuple[dict[str, Tensor], ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``[T, K, 7 or 9]``, scores ``[T, K]``, classes ``[T, K]``; T sub-heads."""
        tasks, first = [], 0
        for task, names in zip(maps, self.head.tasks, strict=True):
            tasks.append(self._task(task, first))
            first += len(names)
        boxes, scores, classes = zip(*tasks, strict=True)
        return torch.stack(boxes), torch.stack(scores), torch.stack(classes)

    def _task(self, maps: Mapping[str, Tensor], first: int) -> tuple[Tensor, Tensor, Tensor]:
        heat = torch.sigmoid(maps["hm"])
        if self.peaks:
            heat = heat * (self.highest(heat) == heat).float()
        rows, columns = self.config.feature_size
        cells = rows * columns
        smallest = min(self.config.candidates, cells)
        scores, place = torch.topk(heat.reshape(-1), smallest)
        cell = place % cells
        numbers = {name: self._gathered(maps[name], cell, cells) for name in self.head.branches}
        stride = self.config.backbone.stride
        grid = self.config.grid
        x = ((cell % columns).float() + numbers["center"][0]) * (stride * grid.cell[0]) + grid.low[
            0
        ]
        y = ((cell // columns).float() + numbers["center"][1]) * (stride * grid.cell[1]) + grid.low[
            1
        ]
        cos, sin = numbers["rot"]
        parts = [x, y, *numbers["center_z"], *torch.exp(numbers["dim"]), atan2(sin, cos)]
        boxes = torch.stack([*parts, *numbers.get("vel", ())], dim=1)
        inside = (boxes[:, :3] >= self.get_buffer("low")) & (
            boxes[:, :3] <= self.get_buffer("high")
        )
        scores = scores * inside.all(dim=1).float()
        return boxes, scores, (place // cells + first).float()

    @staticmethod
    def _gathered(values: Tensor, cell: Tensor, cells: int) -> Tensor:
        """``[channels, K]``."""
        channels = torch.arange(values.shape[1])[:, None]
        return values.reshape(-1)[channels * cells + cell[None]]


class BoxRows(nn.Module):
    """Candidates to rows of fixed number: too low a score goes, then what a better box overlaps.

    Args:
        suppress: by rotated IoU; else every candidate of enough score stays.
        kept: of each group at most.
    """

    def __init__(self, config: Config, groups: int, candidates: int, *, suppress: bool) -> None:
        super().__init__()
        head = config.head
        self.score, self.kept = (
            head.score,
            head.kept if isinstance(head, CentreHead) else candidates,
        )
        self.rows = min(config.boxes, groups * candidates)
        self.padding = config.boxes - self.rows
        self.suppression = Suppression(groups, candidates, head.iou) if suppress else None

    def forward(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        valid = scores >= self.score
        keep = valid.float()
        if self.suppression is not None:
            keep = self.suppression(boxes[..., _FLAT], valid)
            keep = keep * (torch.cumsum(keep, 1) <= self.kept).float()
        final, place = torch.topk((scores * keep).reshape(-1), self.rows)
        there = (final > 0).float()
        labels = classes.reshape(-1)[place]
        labels = torch.where(final > 0, labels, -1.0)
        chosen = boxes.reshape(-1, boxes.shape[-1])[place] * there[:, None]
        rows = torch.cat([chosen, final[:, None], labels[:, None]], dim=1)
        if self.padding:
            empty = torch.zeros(self.padding, rows.shape[1])
            empty[:, -1] = -1
            rows = torch.cat([rows, empty])
        return rows


def candidates_of(config: Config) -> tuple[int, int]:
    """Groups, and candidates of each."""
    rows, columns = config.feature_size
    if isinstance(config.head, AnchorHead):
        return 1, min(config.candidates, rows * columns * config.head.per_cell)
    return len(config.head.tasks), min(config.candidates, rows * columns)
