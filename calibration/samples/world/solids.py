"""Solids: the boxes and ellipsoids that everything standing in the world is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
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
class Actor:
    """One thing that was placed as a whole: what has an instance id and a box.

    Attributes:
        centre: of the box around all its parts, metres.
        size: length, width, height of that box, metres.
        yaw: radians.
        velocity: x and y, metres a second; 0 for what stands.
    """

    label: Label
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def seen_from(self, pose: Matrix, seconds: float = 0.0) -> Actor:
        """The actor ``seconds`` later in the frame at ``pose`` (4x4, turned about z)."""
        x, y, z = self.centre
        dx, dy = self.velocity
        back = np.linalg.inv(pose)
        place = back @ [x + dx * seconds, y + dy * seconds, z, 1.0]
        speed = back[:2, :2] @ self.velocity
        turn = math.atan2(back[1, 0], back[0, 0])
        return replace(
            self,
            centre=(float(place[0]), float(place[1]), float(place[2])),
            yaw=math.remainder(self.yaw + turn, 2 * math.pi),
            velocity=(float(speed[0]), float(speed[1])),
        )


@dataclass(frozen=True)
class Solids:
    """Arrays over all n solids of a scene, in the ego frame, metres.

    Attributes:
        centre, half: float32 ``[n, 3]``, half extents along the solid's own axes.
        cos, sin: float32 ``[n]`` of its yaw.
        rounded: bool ``[n]``, ellipsoids.
        label, material: uint8 ``[n]``.
        colour: float32 ``[n, 3]``.
        actor: int32 ``[n]``, which of the scene's actors a solid belongs to.
        moved: float32 ``[n, 3]``, how far it is from where it was at the start; patterns stick to
            solids that way.
    """

    centre: Float
    half: Float
    cos: Float
    sin: Float
    rounded: NDArray[np.bool_]
    label: NDArray[np.uint8]
    material: NDArray[np.uint8]
    colour: Float
    actor: NDArray[np.int32]
    moved: Float

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, chosen: NDArray[Any]) -> Solids:
        return Solids(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def after(self, steps: Float) -> Solids:
        """The same with every actor moved by its row of ``steps``, metres ``[actors, 2]``."""
        way = np.zeros_like(self.centre)
        way[:, :2] = steps[self.actor]
        return replace(self, centre=self.centre + way, moved=self.moved + way)

    def seen_from(self, pose: Matrix) -> Solids:
        """The same in the frame that stands at ``pose`` (4x4, turned about z)."""
        back = np.linalg.inv(pose)
        centre = (self.centre @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
        cos, sin = np.float32(back[0, 0]), np.float32(back[1, 0])
        turned = (self.cos * cos - self.sin * sin, self.sin * cos + self.cos * sin)
        return replace(self, centre=centre, cos=turned[0], sin=turned[1])


@dataclass
class Assembly:
    """Collects parts of placed actors and turns them into :class:`Solids`."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)

    def add(
        self,
        parts: list[Part],
        label: Label,
        x: float,
        y: float,
        yaw: float,
        velocity: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Place an actor made of ``parts`` at (x, y) on the ground, turned by ``yaw`` radians."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        for part in parts:
            px, py, pz = part.centre
            centre = (x + cos * px - sin * py, y + sin * px + cos * py, pz)
            half = tuple(extent / 2 for extent in part.size)
            row = (*centre, *half, cos, sin, part.rounded, label, part.material, *part.colour)
            self.rows.append((*row, len(self.actors)))
        self.actors.append(replace(_boxed(parts, label, (x, y, yaw)), velocity=velocity))

    def solids(self) -> Solids:
        table = np.array(self.rows, np.float32).reshape(-1, 15)
        return Solids(
            centre=table[:, 0:3],
            half=table[:, 3:6],
            cos=table[:, 6],
            sin=table[:, 7],
            rounded=table[:, 8] > 0,
            label=table[:, 9].astype(np.uint8),
            material=table[:, 10].astype(np.uint8),
            colour=table[:, 11:14],
            actor=table[:, 14].astype(np.int32),
            moved=np.zeros((len(table), 3), np.float32),
        )


def _boxed(parts: list[Part], label: Label, place: tuple[float, float, float]) -> Actor:
    """An actor with the box around its parts."""
    centres = np.array([part.centre for part in parts], float)
    halves = np.array([part.size for part in parts], float) / 2
    low, high = (centres - halves).min(axis=0), (centres + halves).max(axis=0)
    ahead, left, up = ((low + high) / 2).tolist()
    length, width, height = (high - low).tolist()
    x, y, yaw = place
    cos, sin = math.cos(yaw), math.sin(yaw)
    centre = (x + cos * ahead - sin * left, y + sin * ahead + cos * left, up)
    return Actor(label, centre, (length, width, height), yaw)
