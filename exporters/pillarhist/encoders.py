"""Points to a map of the ground, as trained: PillarHist, PointPillars' PFN and its dynamic form.

Each takes ``[N, columns]`` and gives ``[1, width, ny, nx]``. Rows that no grid holds are padding.
Plain PyTorch with lists of pillars, to train with and to compare the exported graph to; what is
exported stands in `histogram` and `pfn`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from exporters.pillarhist.backbone import EPSILON, MOMENTUM
from exporters.pillarhist.config import (
    Config,
    DynamicPillars,
    HardPillars,
    Histogram,
    PillarGrid,
)

LEVELS = 255
"""Intensities are summed as integers 0 to 255, so that their order cannot change the sum."""


class PFNLayer(nn.Module):
    """A layer of every point and the maximum of each pillar, or of a pillar for PillarHist."""

    def __init__(self, inputs: int, width: int, *, norm: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width, bias=not norm)
        if norm:
            self.norm = nn.BatchNorm1d(width, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, rows: Tensor) -> Tensor:
        """``[n, inputs]`` to ``[n, width]``; without BatchNorm there is no ReLU either."""
        out: Tensor = self.linear(rows)
        return torch.relu(self.norm(out)) if hasattr(self, "norm") else out


class PillarEncoder(nn.Module):
    """What the three have in common: the grid and the layers.

    Attributes:
        pfn_layers: as in OpenPCDet.
    """

    def __init__(self, config: Config, layers: Sequence[PFNLayer]) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid
        self.pfn_layers = nn.ModuleList(layers)

    def forward(self, points: Tensor) -> Tensor:
        features, pillars = self.encode(points)
        canvas = features.new_zeros(self.grid.pillars, features.shape[1])
        canvas = canvas.index_copy(0, pillars, features)
        return canvas.T.reshape(1, -1, self.grid.ny, self.grid.nx)

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[V, width]`` and the place of each pillar ``[V]``, ``y * nx + x``."""
        raise NotImplementedError


class PillarHist(PillarEncoder):
    """Per pillar: the number of points and their mean intensity in each height bin, and its place.

    ``g = [count | intensity | x | y]``, then one linear layer of the pillar.
    """

    def __init__(self, config: Config, encoder: Histogram) -> None:
        norm = encoder.proj == "linear_bn_relu"
        super().__init__(config, [PFNLayer(2 * encoder.bins + 2, encoder.width, norm=norm)])
        self.encoder = encoder

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        rows, pillars = self.rows(points)
        return self.pfn_layers[0](rows), pillars

    def rows(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """``g`` of every pillar that has a point, ``[V, 2 * bins + 2]``, and its place."""
        bins = self.encoder.bins
        kept, place = inside(points, self.grid, bins, self.config.ego_m)
        height, pillar = place // self.grid.pillars, place % self.grid.pillars
        pillars, number = torch.unique(pillar, return_inverse=True)
        slot = number * bins + height
        size = len(pillars) * bins
        count = torch.bincount(slot, minlength=size).reshape(-1, bins)
        levels = intensity_levels(kept[:, 3], self.config.intensity_max)
        total = torch.zeros(size, dtype=torch.int64).index_add(0, slot, levels)
        mean = total.reshape(-1, bins).float() / (LEVELS * count.clamp(min=1)).float()
        x, y = self.centres(pillars)
        parts = [self.counts(count.float()), mean, x[:, None], y[:, None]]
        return torch.cat(parts, dim=1), pillars

    def counts(self, count: Tensor) -> Tensor:
        return count_values(count, self.encoder.count_mode)

    def centres(self, pillars: Tensor) -> tuple[Tensor, Tensor]:
        """Metres, or in units of the farthest place."""
        x, y = pillar_centres(pillars, self.grid)
        if self.encoder.xy_mode == "metre":
            return x, y
        far = farthest(self.grid)
        return x / far[0], y / far[1]


class HardPFN(PillarEncoder):
    """PointPillars (arXiv:1812.05784): the first 32 points of a pillar, zeros where it has fewer.

    Zeros pass the layer too, so a pillar with fewer points is at least what they become.
    """

    def __init__(self, config: Config, encoder: HardPillars) -> None:
        inputs = len(config.columns) + 6
        super().__init__(config, [PFNLayer(inputs, encoder.width)])
        self.encoder = encoder

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        voxels, counts, pillars = self.voxelize(points)
        features = decorated(voxels, counts, pillar_centres(pillars, self.grid), self.grid)
        out = self.pfn_layers[0](features.flatten(0, 1))
        return out.unflatten(0, features.shape[:2]).amax(dim=1), pillars

    def voxelize(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pillars in the order in which their first points arrive.

        Returns:
            Points ``[V, 32, columns]``, how many there are ``[V]``, and places ``[V]``.
        """
        kept, place = inside(points, self.grid, ego_m=self.config.ego_m)
        places: dict[int, list[int]] = {}
        for row, pillar in enumerate(place.tolist()):
            if pillar not in places and len(places) == self.encoder.pillars:
                continue
            rows = places.setdefault(pillar, [])
            if len(rows) < self.encoder.points:
                rows.append(row)
        voxels = kept.new_zeros(len(places), self.encoder.points, kept.shape[1])
        for number, rows in enumerate(places.values()):
            voxels[number, : len(rows)] = kept[rows]
        counts = torch.tensor([len(rows) for rows in places.values()], dtype=torch.int64)
        return voxels, counts, torch.tensor(list(places), dtype=torch.int64)


class DynamicPFN(PillarEncoder):
    """All points of a pillar: two layers, the first one's maximum beside its points."""

    def __init__(self, config: Config, encoder: DynamicPillars) -> None:
        first, last = encoder.widths
        layers = [PFNLayer(len(config.columns) + 6, first), PFNLayer(2 * first, last)]
        super().__init__(config, layers)

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        kept, place = inside(points, self.grid, ego_m=self.config.ego_m)
        pillars, number = torch.unique(place, return_inverse=True)
        counts = torch.bincount(number, minlength=len(pillars))
        sums = torch.zeros(len(pillars), 3).index_add(0, number, kept[:, :3])
        mean = (sums / counts[:, None])[number]
        centre = centre_columns(pillar_centres(place, self.grid), self.grid)
        rows = torch.cat([kept, kept[:, :3] - mean, kept[:, :3] - centre], dim=1)
        for index, layer in enumerate(self.pfn_layers):
            rows = layer(rows)
            most = rows.new_full((len(pillars), rows.shape[1]), -torch.inf)
            most = most.scatter_reduce(0, number[:, None].expand_as(rows), rows, "amax")
            if index == 0:
                rows = torch.cat([rows, most[number]], dim=1)
        return most, pillars


def make_encoder(config: Config) -> PillarEncoder:
    encoder = config.encoder
    if isinstance(encoder, Histogram):
        return PillarHist(config, encoder)
    if isinstance(encoder, HardPillars):
        return HardPFN(config, encoder)
    return DynamicPFN(config, encoder)


def cells_of(
    points: Tensor, grid: PillarGrid, bins: int = 1, ego_m: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Which rows lie in the grid, bool ``[N]``, and their cell, int64 ``[N]``, 0 for the others.

    A cell is ``(bin * ny + y) * nx + x``; indices are ``floor((p - low) / step)``, float32.
    """
    low = points.new_tensor(grid.low)
    step = points.new_tensor(grid.steps(bins))
    size = points.new_tensor([grid.nx, grid.ny, bins])
    index = torch.floor((points[:, :3] - low) / step)
    taken = ((index >= 0) & (index < size)).all(dim=1)
    if ego_m:
        taken = taken & ~(points[:, :2].abs() < ego_m).all(dim=1)
    x, y, height = torch.where(taken[:, None], index, 0).to(torch.int64).unbind(dim=1)
    return taken, (height * grid.ny + y) * grid.nx + x


def inside(
    points: Tensor, grid: PillarGrid, bins: int = 1, ego_m: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The rows that lie in the grid, and their cells."""
    taken, cells = cells_of(points, grid, bins, ego_m)
    return points[taken], cells[taken]


def intensity_levels(intensity: Tensor, full: float) -> Tensor:
    """As integers 0 to 255, half to even."""
    return torch.round(intensity * (LEVELS / full)).clamp(0, LEVELS).to(torch.int64)


def count_values(count: Tensor, mode: str) -> Tensor:
    """What the network sees of a number of points."""
    if mode == "raw":
        return count
    return torch.log1p(count) if mode == "log1p" else count.clamp(max=8) * 0.125


def pillar_centres(pillars: Tensor, grid: PillarGrid) -> tuple[Tensor, Tensor]:
    """Their x and y in metres."""
    row = torch.div(pillars, grid.nx, rounding_mode="trunc")
    x = (pillars - row * grid.nx).float() * grid.cell[0] + (grid.cell[0] / 2 + grid.low[0])
    y = row.float() * grid.cell[1] + (grid.cell[1] / 2 + grid.low[1])
    return x, y


def farthest(grid: PillarGrid) -> tuple[float, float]:
    """Largest magnitude of x and of y in the grid, metres."""
    x, y, _ = (max(abs(a), abs(b)) for a, b in zip(grid.low, grid.high, strict=True))
    return x, y


def centre_columns(centres: tuple[Tensor, Tensor], grid: PillarGrid) -> Tensor:
    """x, y and z of the middle of each pillar."""
    x, y = centres
    return torch.stack([x, y, torch.full_like(x, (grid.low[2] + grid.high[2]) / 2)], dim=-1)


def decorated(
    voxels: Tensor, counts: Tensor, centres: tuple[Tensor, Tensor], grid: PillarGrid
) -> Tensor:
    """Points with their distance from the pillar's mean and from its middle, zeros for padding.

    Args:
        voxels: ``[V, 32, columns]``, zeros beyond ``counts``.
    """
    places = voxels[..., :3]
    mean = places.sum(dim=1, keepdim=True) / counts.clamp(min=1).float()[:, None, None]
    middle = centre_columns(centres, grid)[:, None]
    rows = torch.cat([voxels, places - mean, places - middle], dim=-1)
    slots = torch.arange(voxels.shape[1])
    return rows * (slots[None] < counts[:, None])[..., None].float()
