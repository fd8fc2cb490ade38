"""The pooling tables as torch modules, written so that they export to few ONNX operators.

Rows are picked with ``embedding``, which exports as one ``Gather`` on axis 0 and takes int32
indices of any rank as they are (``index_select`` casts to int64, advanced indexing becomes
``GatherND``). Tables are non-persistent buffers: they are geometry and belong to no checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.flashocc.pooling import BucketTables, Capacity, ColumnTables, PoolTables


def make_pooling(tables: PoolTables) -> nn.Module:
    """A pooling module with its tables baked in.

    Its forward maps ``depth [N, D, fH, fW]`` and ``context [N, C, fH, fW]`` to
    ``bev [1, C, ny, nx]``.
    """
    if isinstance(tables, ColumnTables):
        return ColumnPooling(tables)
    return BucketPooling(tables)


class ColumnPooling(nn.Module):
    """Column form with constant tables."""

    def __init__(self, tables: ColumnTables) -> None:
        super().__init__()
        self.bev = tables.bev
        self.names = tuple(tables.named())
        for name, table in tables.named().items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, depth: Tensor, context: Tensor) -> Tensor:
        tables = [self.get_buffer(name) for name in self.names]
        return pool_columns(depth, context, self.bev, *tables)


class TablePooling(nn.Module):
    """Column form whose tables are inputs of a fixed capacity.

    ``forward(depth, context, *tables)`` takes the tables in the order of
    ``pooling.table_names(capacity)``.
    """

    def __init__(self, capacity: Capacity, bev: tuple[int, int]) -> None:
        super().__init__()
        self.capacity = capacity
        self.bev = bev

    def forward(self, depth: Tensor, context: Tensor, *tables: Tensor) -> Tensor:
        return pool_columns(depth, context, self.bev, *tables)


class BucketPooling(nn.Module):
    """Bucket form with constant tables."""

    def __init__(self, tables: BucketTables) -> None:
        super().__init__()
        self.bev = tables.bev
        self.buckets = len(tables.depth)
        self.register_buffer("zero", torch.zeros(1), persistent=False)
        self.register_buffer("cells", torch.from_numpy(tables.cells), persistent=False)
        for index, (depth, context) in enumerate(zip(tables.depth, tables.context, strict=True)):
            self.register_buffer(f"depth{index}", torch.from_numpy(depth), persistent=False)
            self.register_buffer(f"context{index}", torch.from_numpy(context), persistent=False)

    def forward(self, depth: Tensor, context: Tensor) -> Tensor:
        channels = context.shape[1]
        weights = torch.cat([depth.reshape(-1), self.get_buffer("zero")]).reshape(-1, 1)
        pixels = context.permute(0, 2, 3, 1).reshape(-1, channels)
        parts = []
        for index in range(self.buckets):
            points = self.get_buffer(f"depth{index}")  # [n, K]
            weight = F.embedding(points, weights).reshape(-1, 1, points.shape[1])
            pixel = F.embedding(self.get_buffer(f"context{index}"), pixels)  # [n, K, C]
            parts.append((weight @ pixel).reshape(-1, channels))
        return _to_map(torch.cat(parts), self.get_buffer("cells"), self.bev)


def pool_columns(depth: Tensor, context: Tensor, bev: tuple[int, int], *tables: Tensor) -> Tensor:
    """The column form (``exporters.flashocc.pooling`` has the formula and the tables' shapes)."""
    rows, mask, cells, *sums = tables
    count, bins, height, width = depth.shape
    channels = context.shape[1]
    groups = rows.shape[0] // (count * width)

    weights = depth.permute(0, 3, 1, 2).reshape(count * width * bins, height)
    weights = F.embedding(rows, weights) * mask
    pixels = context.permute(0, 3, 2, 1).reshape(count * width, height, channels)
    product = weights.reshape(count * width, groups, height) @ pixels
    product = product.reshape(-1, channels)
    shared = [F.embedding(index, product).sum(1) for index in sums]
    return _to_map(torch.cat([product, *shared]) if shared else product, cells, bev)


def _to_map(table: Tensor, cells: Tensor, bev: tuple[int, int]) -> Tensor:
    rows, columns = bev
    picked = F.embedding(cells, table).reshape(1, rows, columns, table.shape[1])
    return picked.permute(0, 3, 1, 2)
