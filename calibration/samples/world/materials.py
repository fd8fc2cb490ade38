"""What solids are painted with: windows, glass, lamps, stripes and leaves, as factors on a colour.

A pattern is a function of where on its solid a point lies, so it sticks to the solid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.samples.world.noise import noise
from calibration.samples.world.solids import Colour, Float, Material


@dataclass(frozen=True)
class Surface:
    """Points on solids.

    Attributes:
        unit: position in the solid's own axes, scaled to [-1, 1], ``[n, 3]``.
        half: half extents of the solid, metres, ``[n, 3]``.
        points: position where the solid was at the start, metres, ``[n, 3]``.
    """

    unit: Float
    half: Float
    points: Float

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Surface:
        return Surface(self.unit[chosen], self.half[chosen], self.points[chosen])

    @property
    def on_side(self) -> NDArray[np.bool_]:
        """Not on the top or the bottom of a box."""
        side: NDArray[np.bool_] = np.abs(self.unit[:, 2]) < 0.98
        return side

    @property
    def along(self) -> Float:
        """Metres along the side of a box, from its middle."""
        at_end = np.abs(self.unit[:, 0]) > np.abs(self.unit[:, 1])
        metres = self.unit * self.half
        return np.where(at_end, metres[:, 1], metres[:, 0])


def pattern(surface: Surface, material: NDArray[np.uint8]) -> Float:
    """Factor on the colour of each point, ``[n, 3]``."""
    x, y, z = surface.points.T
    grain = noise(x * 9 + z * 5, y * 9 + z * 7)
    factor = _grey(0.93 + 0.14 * grain)
    for kind, draw in _PATTERNS.items():
        chosen = material == kind
        if chosen.any():
            factor[chosen] *= draw(surface[chosen])
    return factor


def _facade(surface: Surface) -> Float:
    """Windows in rows; each reflects a little differently."""
    z = surface.points[:, 2]
    column, floor = surface.along / 2.6, z / 3.1
    u, v = column - np.floor(column), floor - np.floor(floor)
    window = surface.on_side & (np.abs(u - 0.5) < 0.27) & (np.abs(v - 0.55) < 0.27) & (z > 0.9)
    glass = 0.22 + 0.5 * noise(np.floor(column) * 17, np.floor(floor) * 29)
    sill = surface.on_side & (np.abs(u - 0.5) < 0.31) & (np.abs(v - 0.25) < 0.03) & (z > 0.9)
    wall = np.where(sill, np.float32(1.25), np.float32(1))
    return _panes(np.where(window, glass, wall), window, (0.85, 0.97, 1.12))


def _glass(surface: Surface) -> Float:
    """A car's cabin: dark panes between posts, under a painted roof."""
    x, y, z = np.abs(surface.unit).T
    post = (x > 0.94) & (y > 0.94) | ((x < 0.04) & (y > 0.9))
    pane = surface.on_side & ~post & (z < 0.8)
    return _panes(np.where(pane, np.float32(0.24), np.float32(1)), pane, (0.9, 1.0, 1.12))


def _band(surface: Surface) -> Float:
    """A row of windows along a bus or a driver's cab."""
    z = surface.unit[:, 2]
    pane = surface.on_side & (z > 0.1) & (z < 0.75) & (np.mod(surface.along, 1.4) > 0.12)
    return _panes(np.where(pane, np.float32(0.28), np.float32(1)), pane, (0.9, 1.0, 1.1))


def _body(surface: Surface) -> Float:
    """Lamps at the upper corners of both ends, white ahead and red behind; a dark sill below."""
    x, y, z = surface.unit.T
    factor = _grey(np.where(z < -0.7, np.float32(0.5), np.float32(1)))
    below_top = (1 - z) * surface.half[:, 2]  # metres: lamps do not grow with a truck's body
    inwards = (1 - np.abs(y)) * surface.half[:, 1]
    lamp = (np.abs(x) > 0.985) & (inwards < 0.4) & (below_top > 0.06) & (below_top < 0.24)
    factor[lamp & (x < 0)] = 1.5, 0.15, 0.12
    factor[lamp & (x > 0)] = 1.6, 1.6, 1.5
    return factor


def _stripes(surface: Surface) -> Float:
    metres = surface.unit * surface.half
    white = np.mod(metres[:, 0] + metres[:, 2], 0.5) < 0.25
    factor = np.ones((len(white), 3), np.float32)
    factor[white] = 1.15, 3.0, 3.5
    return factor


def _leaves(surface: Surface) -> Float:
    """Clumps of leaves, darker in the lower half of a crown."""
    x, y, z = surface.points.T
    coarse = noise(x * 13 + z * 8, y * 13 - z * 11)
    fine = noise(x * 67 - z * 43, y * 67 + z * 59)
    return _grey((0.30 + 0.65 * coarse + 0.65 * fine) * (0.9 + 0.25 * surface.unit[:, 2]))


_PATTERNS: dict[Material, Callable[[Surface], Float]] = {
    Material.FACADE: _facade,
    Material.GLASS: _glass,
    Material.BAND: _band,
    Material.BODY: _body,
    Material.STRIPES: _stripes,
    Material.LEAVES: _leaves,
}


def _grey(factor: Float) -> Float:
    colours: Float = factor[:, None].repeat(3, axis=1).astype(np.float32)
    return colours


def _panes(factor: Float, pane: NDArray[np.bool_], tint: Colour) -> Float:
    """Grey ``factor``, tinted where a pane of glass is."""
    result = _grey(factor)
    result[pane] *= np.array(tint, np.float32)
    return result
