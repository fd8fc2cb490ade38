"""Solids: the boxes and ellipsoids that everything standing in the world is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1."""


class Label(IntEnum):
    """Semantic classes of Occ3D; numbers and names are theirs."""

    others = 0
    barrier = 1
    bicycle = 2
    bus = 3
    car = 4
    construction_vehicle = 5
    motorcycle = 6
    pedestrian = 7
    traffic_cone = 8
    trailer = 9
    truck = 10
    driveable_surface = 11
    other_flat = 12
    sidewalk = 13
    terrain = 14
    manmade = 15
    vegetation = 16
    free = 17


class Material(IntEnum):
    """How a solid's surface is painted; see ``shade``."""

    PLAIN = 0
    FACADE = 1  # rows of windows on the sides
    GLASS = 2  # dark sides, painted top
    BAND = 3  # one row of windows along the upper half of the sides
    BODY = 4  # lamps at the ends
    STRIPES = 5  # white diagonal stripes
    LEAVES = 6


@dataclass(frozen=True)
class Part:
    """One solid in the frame of the actor that it belongs to (x ahead, y left, z up, metres).

    Attributes:
        centre: of the solid.
        size: full extents.
        rounded: an ellipsoid instead of a box.
    """

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour
    material: Material = Material.PLAIN
    rounded: bool = False


@dataclass(frozen=True)
class Solids:
    """Arrays over all n solids of a scene, in the ego frame, metres.

    Attributes:
        centre, half: float32 ``[n, 3]``, half extents along the solid's own axes.
        cos, sin: float32 ``[n]`` of its yaw.
        rounded: bool ``[n]``, ellipsoids.
        label, material: uint8 ``[n]``.
        colour: float32 ``[n, 3]``.
    """

    centre: Float
    half: Float
    cos: Float
    sin: Float
    rounded: NDArray[np.bool_]
    label: NDArray[np.uint8]
    material: NDArray[np.uint8]
    colour: Float

    def __len__(self) -> int:
        return len(self.label)


@dataclass
class Assembly:
    """Collects parts of placed actors and turns them into :class:`Solids`."""

    rows: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, parts: list[Part], label: Label, x: float, y: float, yaw: float) -> None:
        """Place an actor made of ``parts`` at (x, y) on the ground, turned by ``yaw`` radians."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        for part in parts:
            px, py, pz = part.centre
            centre = (x + cos * px - sin * py, y + sin * px + cos * py, pz)
            half = tuple(extent / 2 for extent in part.size)
            row = (*centre, *half, cos, sin, part.rounded, label, part.material, *part.colour)
            self.rows.append(row)

    def solids(self) -> Solids:
        table = np.array(self.rows, np.float32).reshape(-1, 14)
        return Solids(
            centre=table[:, 0:3],
            half=table[:, 3:6],
            cos=table[:, 6],
            sin=table[:, 7],
            rounded=table[:, 8] > 0,
            label=table[:, 9].astype(np.uint8),
            material=table[:, 10].astype(np.uint8),
            colour=table[:, 11:14],
        )
