"""BEV pooling as tables of row numbers: no scatter, no atomics, standard operators only.

Pooling (BEVPoolv2, arXiv:2211.17111) adds up, for every cell, the points (n, d, v, u) in it::

    bev[cell, :] = sum depth[n, d, v, u] * context[n, :, v, u]

Two exact ways to compute that from gathers and matrix products:

*Column form.* All rows v of one image column q = (n, u) at one depth bin d mostly fall into the
same cell, since a column of an upright camera is a vertical plane. A *group* is one occurring
(q, d, cell). Per column, ``A[g, v] = depth[d_g, v] * mask[g, v]`` and ``A @ context[q]`` is the sum
of every group; cells that several groups share add few rows more::

    depth [Q*D, fH] -- Gather(rows), Mul(mask) --> [Q, G, fH] -- MatMul(context [Q, fH, C]) -->
    [Q*G, C] -- Concat(sums of K gathered rows) --> [..., C] -- Gather(cells) --> [ny, nx, C]

On a nuScenes rig 152,000 points become 14,000 groups. The form is exact for every rig, but roll
or a fisheye lens multiplies the groups.

*Bucket form.* Cells sorted into buckets by their number of points; per bucket one product
``[n, 1, K] @ [n, K, C]``. Work grows with the points and not with the rig's tilt.

:func:`choose_tables` takes the form that moves fewer numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.capacity import (
    Capacity,
    bucket_sizes,
    edges_up_to,
    fill_buckets,
    table_names,
    too_many_groups,
    too_many_sums,
)
from exporters.flashocc.geometry import Grid, View, cell_indices
from exporters.flashocc.rig import Matrix, Rig

__all__ = [
    "BucketTables",
    "Capacity",
    "ColumnTables",
    "PoolTables",
    "bucket_tables",
    "choose_tables",
    "column_tables",
    "room_for",
    "table_names",
]

Int32 = NDArray[np.int32]
Index = NDArray[np.intp]

_POINT_EDGES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Padding stays near a tenth of the points."""
_CHANNELS = 64
"""Context channels that the cost estimate assumes; the choice depends on them only weakly."""


@dataclass(frozen=True)
class ColumnTables:
    """Tables of the column form; Q = N*fW columns, G groups per column with padding.

    At least one group is spare: its mask is 0, so its row of the product is zero, and whatever is
    empty or padded points there.

    Attributes:
        frustum: N, D, fH, fW.
        bev: ny, nx.
        rows: int32 ``[Q*G]``, row ``q*D + d`` of the depth matrix ``[Q*D, fH]``.
        mask: float32 ``[Q*G, fH]``, 1 where that group owns image row v.
        cells: int32 ``[ny*nx]``, row of ``[group rows; sums of bucket 0; sums of bucket 1; ...]``.
        sums: int32 ``[n, K]`` per bucket: group rows that add up to one cell.
        required: the smallest capacity that this rig fits in.
        reason: why this form was chosen, one sentence.
    """

    frustum: tuple[int, int, int, int]
    bev: tuple[int, int]
    rows: Int32
    mask: NDArray[np.float32]
    cells: Int32
    sums: tuple[Int32, ...]
    required: Capacity
    reason: str = ""

    @property
    def capacity(self) -> Capacity:
        cameras, _, _, width = self.frustum
        buckets = tuple((table.shape[1], table.shape[0]) for table in self.sums)
        return Capacity(len(self.rows) // (cameras * width), buckets)

    def named(self) -> dict[str, NDArray[Any]]:
        """The tables as model inputs, in the order of :func:`table_names`."""
        arrays = (self.rows, self.mask, self.cells, *self.sums)
        return dict(zip(table_names(self.capacity), arrays, strict=True))


@dataclass(frozen=True)
class BucketTables:
    """Tables of the bucket form.

    Attributes:
        frustum: N, D, fH, fW.
        bev: ny, nx.
        depth: int32 ``[n, K]`` per bucket, index into ``[flat depth; 0]``, padded with the last.
        context: int32 ``[n, K]`` per bucket, row of context ``[N*fH*fW, C]``, padded with 0.
        cells: int32 ``[ny*nx]``, row of ``[bucket 0; bucket 1; ...]``; row 0 is an empty cell.
        reason: why this form was chosen, one sentence.
    """

    frustum: tuple[int, int, int, int]
    bev: tuple[int, int]
    depth: tuple[Int32, ...]
    context: tuple[Int32, ...]
    cells: Int32
    reason: str = ""


PoolTables = ColumnTables | BucketTables


def choose_tables(cells: Int32, grid: Grid, cameras: Sequence[str] = ()) -> PoolTables:
    """The column form, unless its padding costs more than the bucket form.

    The estimate counts numbers read and written, which is what both forms spend their time on.

    Args:
        cells: int32 ``[N, D, fH, fW]`` of ``geometry.cell_indices``.
        grid: the one that ``cells`` counts in.
        cameras: names for messages.
    """
    column = column_tables(cells, grid, cameras=cameras)
    bucket = bucket_tables(cells, grid)
    column_cost, bucket_cost = _column_cost(column), _bucket_cost(bucket)
    why = (
        f"{int(np.count_nonzero(cells >= 0))} points form at most {column.required.groups} groups "
        f"per image column; estimated {column_cost / 1e6:.1f} M numbers moved as columns, "
        f"{bucket_cost / 1e6:.1f} M as buckets"
    )
    if column_cost <= bucket_cost:
        return replace(column, reason=f"column form: {why}")
    return replace(bucket, reason=f"bucket form: {why}")


def column_tables(
    cells: Int32, grid: Grid, capacity: Capacity | None = None, cameras: Sequence[str] = ()
) -> ColumnTables:
    """Tables of the column form; exact for every rig.

    Args:
        cells: int32 ``[N, D, fH, fW]`` of ``geometry.cell_indices``.
        grid: the one that ``cells`` counts in.
        capacity: fixed sizes; None for the smallest that fit.
        cameras: names for messages.

    Raises:
        UserError: the rig needs more than ``capacity``; names the camera.
    """
    count, bins, height, width = cells.shape
    by_column = cells.transpose(0, 3, 1, 2).reshape(-1, height)
    depth_row, cell = _groups(by_column)
    column = depth_row // bins
    per_column = np.bincount(column, minlength=count * width)
    needed = int(per_column.max()) + int(per_column.min() == per_column.max())  # one stays spare
    groups = capacity.groups if capacity else needed
    if needed > groups:
        raise too_many_groups(int(per_column.argmax()) // width, cameras, needed, groups)
    row = column * groups + np.arange(len(column)) - (np.cumsum(per_column) - per_column)[column]

    rows = np.zeros(count * width * groups, np.int32)
    mask = np.zeros((count * width * groups, height), np.float32)
    rows[row] = depth_row
    mask[row] = by_column[depth_row] == cell[:, None]
    roomy = int(per_column.argmin())
    zero = roomy * groups + int(per_column[roomy])

    runs = _Runs.of(cell)
    row = np.append(row[runs.order], zero).astype(np.int32)
    required = Capacity(needed, bucket_sizes(runs.length))
    buckets = capacity.buckets if capacity else required.buckets
    members, left = fill_buckets(runs.length, buckets)
    if len(left):
        crowded = np.concatenate([row[:-1][runs.start[i] :][: runs.length[i]] for i in left])
        worst = int(np.bincount(crowded // (groups * width)).argmax())
        raise too_many_sums(worst, cameras, len(left), int(runs.length[left].max()))
    table, sums = _second_stage(runs, row, grid.cells, len(rows), buckets, members)
    frustum = (count, bins, height, width)
    return ColumnTables(frustum, (grid.ny, grid.nx), rows, mask, table, sums, required)


def bucket_tables(cells: Int32, grid: Grid) -> BucketTables:
    """Tables of the bucket form, from the same ``cells`` as :func:`column_tables`."""
    count, bins, height, width = cells.shape
    point = np.flatnonzero(cells >= 0)
    runs = _Runs.of(cells.ravel()[point])
    point = np.append(point[runs.order], cells.size)  # the last stands for padding, with depth 0
    pixel = point // (bins * height * width) * (height * width) + point % (height * width)
    pixel[-1] = 0

    depth: list[Int32] = []
    context: list[Int32] = []
    table = np.zeros(grid.cells, np.int32)
    shortest, last = 1, 1
    for edge in edges_up_to(_POINT_EDGES, int(runs.length.max(initial=0))):
        member = np.flatnonzero((runs.length >= shortest) & (runs.length <= edge))
        shortest = edge + 1
        if depth and not len(member):
            continue
        index = runs.padded(member, int(runs.length[member].max(initial=1)))
        if not depth:  # row 0 of the first bucket is the empty cell
            index = np.insert(index, 0, -1, axis=0)
        depth.append(point[index].astype(np.int32))
        context.append(pixel[index].astype(np.int32))
        table[runs.cell[member]] = last + np.arange(len(member))
        last += len(member)
    frustum = (count, bins, height, width)
    return BucketTables(frustum, (grid.ny, grid.nx), tuple(depth), tuple(context), table)


def room_for(rig: Rig, view: View, grid: Grid, tilt_deg: float = 2.0) -> Capacity:
    """Capacity for rigs of this kind: every camera rolled and pitched by up to ``tilt_deg``.

    Tables of a perfectly upright rig are the smallest there are; real cameras are mounted a
    degree or two off and need up to twice as many groups.
    """
    needs = []
    for roll, pitch in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        tilt = _tilt(math.radians(roll * tilt_deg), math.radians(pitch * tilt_deg))
        tilted = Rig(tuple(replace(c, sensor2ego=c.sensor2ego @ tilt) for c in rig.cameras))
        needs.append(column_tables(cell_indices(tilted, view, grid), grid).required)
    return Capacity.covering(needs)


def _tilt(roll: float, pitch: float) -> Matrix:
    """4x4 rotation about the camera's own z and x axes, radians."""
    a, b, c, d = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    tilt = np.eye(4)
    tilt[:3, :3] = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, c, -d], [0, d, c]]
    return tilt


@dataclass(frozen=True)
class _Runs:
    """Items sorted by cell.

    Attributes:
        order: the item at each position.
        cell: distinct cells, ascending; ``cell[i]`` owns ``length[i]`` positions from ``start[i]``.
    """

    order: Index
    cell: Int32
    start: Index
    length: Index

    @classmethod
    def of(cls, cell: Int32) -> _Runs:
        order = np.argsort(cell, kind="stable")
        ordered = cell[order]
        new = np.ones(len(ordered), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        start = np.flatnonzero(new)
        return cls(order, ordered[start], start, np.diff(start, append=len(ordered)))

    def padded(self, member: Index, width: int) -> Index:
        """Positions of the items of each member, ``[len(member), width]``, padded with -1."""
        offset = np.arange(width)
        real = offset < self.length[member][:, None]
        return np.where(real, self.start[member][:, None] + offset, -1)


def _groups(by_column: Int32) -> tuple[Index, Int32]:
    """Distinct cells of each row of ``[Q*D, fH]``: row number and cell, in row order."""
    ordered = np.sort(by_column, axis=1)
    new = ordered >= 0
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return np.nonzero(new)[0], ordered[new]


def _second_stage(
    runs: _Runs,
    row: Int32,
    cells: int,
    rows: int,
    buckets: Sequence[tuple[int, int]],
    members: Sequence[Index],
) -> tuple[Int32, tuple[Int32, ...]]:
    """``cells`` and ``sums`` of :class:`ColumnTables`; ``row[-1]`` is the zero row."""
    table = np.full(cells, row[-1], np.int32)
    single = runs.length == 1
    table[runs.cell[single]] = row[runs.start[single]]
    sums = []
    for (width, room), member in zip(buckets, members, strict=True):
        index = np.full((room, width), -1)
        index[: len(member)] = runs.padded(member, width)
        sums.append(row[index])
        table[runs.cell[member]] = rows + np.arange(len(member))
        rows += room
    return table, tuple(sums)


def _column_cost(tables: ColumnTables) -> int:
    """Numbers moved: depth gathered and masked, group rows, rows gathered for the sums."""
    group_rows = tables.mask.size * 2 + len(tables.rows) * _CHANNELS
    return group_rows + sum(table.size for table in tables.sums) * _CHANNELS


def _bucket_cost(tables: BucketTables) -> int:
    """Numbers moved: one depth and one context row per padded point."""
    return sum(table.size for table in tables.depth) * (_CHANNELS + 1)
