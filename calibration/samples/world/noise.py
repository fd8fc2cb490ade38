"""Smooth noise that repeats: one tile of random values in three octaves, looked up by position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from calibration.samples.world.solids import Float

_SIDE = 256  # of the tile, a power of two
_OCTAVES = ((32, 0.45), (64, 0.30), (128, 0.25))
"""Random values along a side, and their share."""


def noise(x: Float, y: Float) -> Float:
    """Values from 0 to 1 at positions in units of tile cells; the same in every process."""
    column, row = x.astype(np.int32) & (_SIDE - 1), y.astype(np.int32) & (_SIDE - 1)
    values: Float = _tile()[row, column]
    return values


@lru_cache(maxsize=1)
def _tile() -> Float:
    rng = np.random.default_rng(20240607)
    tile = np.zeros((_SIDE, _SIDE), np.float32)
    for cells, share in _OCTAVES:
        coarse = rng.random((cells, cells), dtype=np.float32)
        tile += np.float32(share) * _stretched(_stretched(coarse, 0), 1)
    scaled: Float = (tile - tile.min()) / (tile.max() - tile.min())
    return scaled


def _stretched(values: Float, axis: int) -> Float:
    """``values`` along ``axis`` interpolated to the tile's side; the last meets the first."""
    factor = _SIDE // values.shape[axis]
    shape = [1, 1, 1]
    shape[axis + 1] = factor
    share = (np.arange(factor, dtype=np.float32) / factor).reshape(shape)
    here, there = values, np.roll(values, -1, axis)
    here, there = (np.expand_dims(part, axis + 1) for part in (here, there))
    size = list(values.shape)
    size[axis] = _SIDE
    stretched: Float = (here * (1 - share) + there * share).reshape(size)
    return stretched
