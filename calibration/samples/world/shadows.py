"""Where the sun reaches the ground: one map per scene, asked by every camera.

For every solid a ray is cast from each point of the ground in its reach towards the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.world.solids import Float, Solids

_STEP_M = 0.2
_REACH_M = 60.0
_SIDE = int(2 * _REACH_M / _STEP_M)

Real = NDArray[Any]


@dataclass(frozen=True)
class ShadowMap:
    """Shadows on flat ground.

    Attributes:
        sunny: float32 ``[y, x]``: 1 in the sun, 0 in shadow, soft edges.
        middle: x and y of the map's middle, metres.
    """

    sunny: Float
    middle: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(
        cls,
        solids: Solids,
        sun: tuple[float, float, float],
        middle: tuple[float, float] = (0.0, 0.0),
    ) -> ShadowMap:
        """The shadows of ``solids`` around ``middle`` for a sun in that direction (unit vector)."""
        sunny = np.ones((_SIDE, _SIDE), np.float32)
        towards = np.array(sun)
        for index in range(len(solids)):
            _draw(sunny, solids, index, towards, np.array(middle))
        return cls(_softened(sunny), middle)

    def at(self, x: Float, y: Float) -> Float:
        """Share of sun light at ground positions; 1 beyond the map."""
        x, y = (axis - np.float32(centre) for axis, centre in zip((x, y), self.middle, strict=True))
        column = ((x + _REACH_M) / _STEP_M).astype(np.int32)
        row = ((y + _REACH_M) / _STEP_M).astype(np.int32)
        inside = (column >= 0) & (column < _SIDE) & (row >= 0) & (row < _SIDE)
        values = self.sunny[row.clip(0, _SIDE - 1), column.clip(0, _SIDE - 1)]
        light: Float = np.where(inside, values, np.float32(1))
        return light


def _draw(sunny: Float, solids: Solids, index: int, sun: Real, middle: Real) -> None:
    centre, half = solids.centre[index].copy(), solids.half[index]
    centre[:2] -= middle
    top = np.array([0.0, centre[2] + half[2]])
    ends = centre[:2] - np.outer(top, sun[:2] / sun[2])  # from its foot away from the sun
    reach = np.hypot(half[0], half[1])
    low = _cell(ends.min(axis=0) - reach)
    high = _cell(ends.max(axis=0) + reach) + 1
    if (low >= high).any():
        return
    x, y = (
        (np.arange(low[axis], high[axis]) + 0.5) * _STEP_M - _REACH_M - centre[axis]
        for axis in (0, 1)
    )
    hit = _meets(solids, index, x[None, :], y[:, None], sun)
    sunny[low[1] : high[1], low[0] : high[0]][hit] = 0.0


def _cell(position: Real) -> Real:
    cell: Real = np.floor((position + _REACH_M) / _STEP_M).astype(int).clip(0, _SIDE - 1)
    return cell


def _meets(solids: Solids, index: int, x: Real, y: Real, sun: Real) -> NDArray[np.bool_]:
    """Whether the ray from the ground at (x, y), relative to the solid's centre, meets it."""
    cos, sin = solids.cos[index], solids.sin[index]
    half, height = solids.half[index], solids.centre[index][2]
    start = (
        (cos * x + sin * y) / half[0],
        (cos * y - sin * x) / half[1],
        np.full((1, 1), -height / half[2]),
    )
    way = np.array([cos * sun[0] + sin * sun[1], cos * sun[1] - sin * sun[0], sun[2]]) / half
    if solids.rounded[index]:
        along = sum(a * b for a, b in zip(start, way, strict=True)) / (way @ way)
        apart = sum((a - along * b) ** 2 for a, b in zip(start, way, strict=True))
        return np.asarray(apart < 1)
    enter, leave = np.full((1, 1), -np.inf), np.full((1, 1), np.inf)
    for a, b in zip(start, way, strict=True):
        inverse = 1 / (b if abs(b) > 1e-6 else 1e-6)
        enter = np.maximum(enter, -a * inverse - abs(inverse))
        leave = np.minimum(leave, -a * inverse + abs(inverse))
    return np.asarray((enter < leave) & (leave > 0))


def _softened(sunny: Float) -> Float:
    for axis in (0, 1):
        sunny = (np.roll(sunny, 1, axis) + 2 * sunny + np.roll(sunny, -1, axis)) / np.float32(4)
    return sunny
