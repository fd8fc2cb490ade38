"""The encoders as they are exported: tensors of fixed size, standard operators.

Each shares no parameter with the trained module, whose BatchNorm is folded into its layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.ops.pillar_histogram import pillar_histogram
from exporters.pillarhist.config import HardPillars, PillarGrid
from exporters.pillarhist.encoders import (
    LEVELS,
    DynamicPFN,
    HardPFN,
    PFNLayer,
    PillarEncoder,
    PillarHist,
    cells_of,
    centre_columns,
    decorated,
    farthest,
    pillar_centres,
)

_PLACE = 3  # numbers of a pillar's own: x, y, and that it has a point


class HistogramRows(nn.Module):
    """PillarHist: the histogram's cells, brought together into one row a pillar.

    ``PillarHistogram`` numbers the pillars that have points and tells every point what its cell
    holds. Each point writes that into the row of its pillar: counts, mean intensities, the place of
    the pillar and a one. Points of one cell write equal values, so it does not matter who comes
    last. There are at most as many rows as points, so none is missing unless the encoder's room is
    smaller; then pillars beyond it are left out, and whoever prepares points refuses the cloud. One
    matrix product follows (its bias stands in the column of ones), and the rows go to their places
    on the map; rows that no pillar has repeat the first one.

    Places are written in units of the farthest one, whatever ``xy_mode`` the network was trained
    in; its weights absorb the factor. So all columns lie in -1 to 1 and one INT8 scale fits them,
    unless counts are ``raw``.
    """

    def __init__(self, trained: PillarHist) -> None:
        super().__init__()
        self.grid, self.encoder = trained.grid, trained.encoder
        self.full, self.ego_m = trained.config.intensity_max, trained.config.ego_m
        layer = trained.pfn_layers[0]
        assert isinstance(layer, PFNLayer)
        weight, bias = folded(layer)
        if trained.encoder.xy_mode == "metre":
            far = weight.new_tensor(farthest(self.grid))
            weight = torch.cat([weight[:, :-2], weight[:, -2:] * far], dim=1)
        weight = torch.cat([weight, bias[:, None]], dim=1)
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.linear.weight = nn.Parameter(weight)
        self.activation = nn.ReLU() if hasattr(layer, "norm") else nn.Identity()
        self.counts = trained.counts

    def forward(self, points: Tensor) -> Tensor:
        rows, places = self.rows(points)
        features = self.activation(self.linear(rows))
        there = rows[:, -1] > 0
        number = torch.arange(len(places))
        features = features.index_select(0, torch.where(there, number, 0))
        places = torch.where(there, places, places[:1])
        canvas = torch.zeros(features.shape[1], self.grid.pillars)
        where = places[None].expand(features.shape[1], -1)
        canvas = canvas.scatter(1, where, features.T)
        return canvas.reshape(1, -1, self.grid.ny, self.grid.nx)

    def rows(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``[R, 2 * bins + 3]`` and places ``[R]``; zeros beyond the last pillar."""
        grid, bins = self.grid, self.encoder.bins
        room = self.encoder.rows(points.shape[0])
        size = (grid.nx, grid.ny, bins)
        pillar, slot, counts, sums = pillar_histogram(
            points, grid.low, grid.steps(bins), size, LEVELS / self.full, room, self.ego_m
        )
        mean = sums.float() / (LEVELS * counts.clamp(min=1)).float()
        number = torch.div(slot, bins, rounding_mode="trunc")
        cell = slot + number * bins  # number * 2 * bins + bin
        values = torch.cat([self.counts(counts.float()), mean])
        table = torch.zeros(room * 2 * bins).scatter(0, torch.cat([cell, cell + bins]), values)
        # places from 1 on, 0 for rows that no pillar has;
        # TensorRT takes no more indices than there are places to write to
        marks = torch.zeros(points.shape[0], dtype=torch.int64)
        marks = marks.scatter(0, number, (pillar + 1) * (counts > 0))[:room]
        there, places = (marks > 0).float(), (marks - 1).clamp(min=0)
        x, y = pillar_centres(places, grid)
        far = farthest(grid)
        own = torch.stack([x / far[0] * there, y / far[1] * there, there], dim=1)
        return torch.cat([table.reshape(room, 2 * bins), own], dim=1), places


class SortedPillars(nn.Module):
    """PointPillars' encoder: points sorted by pillar, the first 32 of each into fixed slots.

    Sorting by ``pillar * N + row`` keeps the order of arrival within a pillar. Pillars are numbered
    by their first point's arrival, so where there are too many, upstream's choice is made.
    """

    def __init__(self, trained: HardPFN) -> None:
        super().__init__()
        self.grid, self.ego_m = trained.grid, trained.config.ego_m
        self.encoder: HardPillars = trained.encoder
        self.linear = folded_linear(trained)

    def forward(self, points: Tensor) -> Tensor:
        voxels, counts, pillars = self.voxelize(points)
        features = decorated(voxels, counts, pillar_centres(pillars, self.grid), self.grid)
        out = torch.relu(self.linear(features)).amax(dim=1)
        return _canvas(out, counts, pillars, self.grid)

    def voxelize(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points ``[V, 32, columns]``, how many ``[V]``, and places; zeros beyond the last one."""
        rows, slots = points.shape[0], self.encoder.points
        room = min(self.encoder.pillars, rows)
        nowhere = self.grid.pillars
        taken, cells = cells_of(points, self.grid, 1, self.ego_m)
        cells = torch.where(taken, cells, nowhere)
        row = torch.arange(rows)
        keys = torch.sort(cells * rows + row).values
        arrival = keys % rows
        cell = keys // rows
        starts = cell != torch.cat([cell.new_full((1,), -1), cell[:-1]])
        run = torch.cumsum(starts.to(torch.int64), 0) - 1
        table = torch.zeros(2 * rows, dtype=torch.int64)
        begin = table.scatter(0, torch.where(starts, run, rows + row), row)[run]
        rank = row - begin
        # the first point of every pillar, in order of arrival, numbers the pillars
        leads = (starts & (cell < nowhere)).to(torch.int64)
        number = torch.cumsum(torch.zeros_like(leads).scatter(0, arrival, leads), 0) - 1
        pillar = number[arrival[begin]]
        used = (cell < nowhere) & (rank < slots) & (pillar < room)
        slot = torch.where(used, pillar * slots + rank, room * slots + row)
        source = torch.full((room * slots + rows,), rows).scatter(0, slot, arrival)
        source = source[: room * slots].reshape(room, slots)
        padded = torch.cat([points, points.new_zeros(1, points.shape[1])])
        counts = (source < rows).to(torch.int64).sum(dim=1)
        places = torch.cat([cells, cells.new_zeros(1)])[source[:, 0]]
        return padded[source.reshape(-1)].reshape(room, slots, -1), counts, places


class DensePillars(nn.Module):
    """The encoder without caps: sums and maxima over all points of each pillar of the grid."""

    def __init__(self, trained: DynamicPFN) -> None:
        super().__init__()
        self.grid, self.ego_m = trained.grid, trained.config.ego_m
        self.first, self.last = folded_linear(trained, 0), folded_linear(trained, 1)

    def forward(self, points: Tensor) -> Tensor:
        taken, cells = cells_of(points, self.grid, 1, self.ego_m)
        points = torch.where(taken[:, None], points, 0.0)
        there = taken.float()[:, None]
        sums = self._reduced(torch.cat([points[:, :3], there], dim=1), cells, "sum")[cells]
        mean = sums[:, :3] / sums[:, 3:].clamp(min=1)
        centre = centre_columns(pillar_centres(cells, self.grid), self.grid)
        rows = torch.cat([points, points[:, :3] - mean, points[:, :3] - centre], dim=1)
        hidden = torch.relu(self.first(rows)) * there
        most = self._reduced(hidden, cells, "amax")[cells]
        out = torch.relu(self.last(torch.cat([hidden, most], dim=1))) * there
        canvas = self._reduced(out, cells, "amax")
        return canvas.T.reshape(1, -1, self.grid.ny, self.grid.nx)

    def _reduced(self, rows: Tensor, cells: Tensor, how: str) -> Tensor:
        """Over the points of each pillar; 0 where there is none, which no maximum is below."""
        start = torch.zeros(self.grid.pillars, rows.shape[1])
        where = cells[:, None].expand(-1, rows.shape[1])
        if how == "sum":
            return start.scatter_add(0, where, rows)
        return start.scatter_reduce(0, where, rows, how)


def exported_encoder(trained: PillarEncoder) -> nn.Module:
    if isinstance(trained, PillarHist):
        return HistogramRows(trained)
    if isinstance(trained, HardPFN):
        return SortedPillars(trained)
    assert isinstance(trained, DynamicPFN)
    return DensePillars(trained)


def folded(layer: PFNLayer) -> tuple[Tensor, Tensor]:
    """Weight and bias with BatchNorm in them."""
    weight = layer.linear.weight.detach().clone()
    if not hasattr(layer, "norm"):
        return weight, layer.linear.bias.detach().clone()
    norm = layer.norm
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    return weight * gain[:, None], (norm.bias - norm.running_mean * gain).detach()


def folded_linear(trained: PillarEncoder, index: int = 0) -> nn.Linear:
    layer = trained.pfn_layers[index]
    assert isinstance(layer, PFNLayer)
    weight, bias = folded(layer)
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    return linear


def _canvas(rows: Tensor, counts: Tensor, pillars: Tensor, grid: PillarGrid) -> Tensor:
    """Rows at their places; those of pillars without points lie beyond the map, each in its own."""
    spare = grid.pillars + torch.arange(rows.shape[0])
    where = torch.where(counts > 0, pillars, spare)
    canvas = torch.zeros(grid.pillars + rows.shape[0], rows.shape[1])
    canvas = canvas.index_put((where,), rows)[: grid.pillars]
    return canvas.T.reshape(1, -1, grid.ny, grid.nx)
