"""The flat ground: a street, perhaps a crossing street, pavements, and what lies beyond.

Everything is a function of position, so images and voxels ask the same ground. Street coordinates:
s along the street, l to its left, the middle line at l = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calibration.samples.world.solids import Float, Label

LANE_M = 3.5

_COLOURS = np.zeros((len(Label), 3), np.float32)
_COLOURS[Label.driveable_surface] = 0.30, 0.30, 0.31
_COLOURS[Label.other_flat] = 0.47, 0.42, 0.38
_COLOURS[Label.sidewalk] = 0.56, 0.54, 0.51
_COLOURS[Label.terrain] = 0.27, 0.35, 0.15


@dataclass(frozen=True)
class Ground:
    """Attributes are metres and radians.

    Attributes:
        heading: of the street in the ego frame.
        offset: the street's middle line lies this far to the left of the ego.
        half_width: of the road.
        pavement: width of each pavement.
        island: half width of a traffic island in the middle; 0 for none.
        crossing: s of a crossing street's middle; None for none.
        crossing_half: its half width.
        plaza: s range of a paved square beside the left pavement.
        asphalt: brightness of the road.
    """

    heading: float
    offset: float
    half_width: float
    pavement: float
    island: float
    crossing: float | None
    crossing_half: float
    plaza: tuple[float, float]
    asphalt: float

    @classmethod
    def random(cls, rng: Generator) -> Ground:
        lanes = int(rng.integers(1, 4))
        half_width = lanes * LANE_M + rng.uniform(0.3, 1.2)
        crossing = rng.choice([-1, 1]) * rng.uniform(12, 32) if rng.random() < 0.55 else None
        start = rng.uniform(-30, 15)
        return cls(
            heading=float(rng.normal(0, math.radians(3))),
            offset=LANE_M * (rng.integers(lanes) + 0.5) + float(rng.normal(0, 0.2)),
            half_width=half_width,
            pavement=rng.uniform(2.0, 4.0),
            island=0.8 if lanes > 1 and rng.random() < 0.4 else 0.0,
            crossing=None if crossing is None else float(crossing),
            crossing_half=rng.uniform(3.5, 7.0),
            plaza=(start, start + rng.uniform(8, 20)) if rng.random() < 0.5 else (0.0, 0.0),
            asphalt=rng.uniform(0.8, 1.15),
        )

    def to_street(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Ego coordinates to (s, l)."""
        cos, sin = np.float32(math.cos(self.heading)), np.float32(math.sin(self.heading))
        return x * cos + y * sin, y * cos - x * sin - np.float32(self.offset)

    def to_ego(self, s: float, left: float) -> tuple[float, float]:
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        across = left + self.offset
        return s * cos - across * sin, s * sin + across * cos

    def labels(self, x: Float, y: Float) -> NDArray[np.uint8]:
        """The class of the ground at ego positions; uint8 of the same shape."""
        return self._labels(*self.to_street(x, y))

    def colours(self, x: Float, y: Float) -> Float:
        """Paint without light, float32 ``[..., 3]``: surfaces, markings, kerbs."""
        s, left = self.to_street(x, y)
        labels = self._labels(s, left)
        colours = _COLOURS[labels]
        road = labels == Label.driveable_surface
        colours[road] *= np.float32(self.asphalt)
        colours[road & self._white(s, left)] = 0.82, 0.82, 0.80
        if not self.island:
            middle = np.abs(np.abs(left) - 0.14) < 0.06
            colours[road & middle & ~self._at_crossing(s, 3.6)] = 0.78, 0.62, 0.18
        slabs = (labels == Label.sidewalk) & ((np.mod(s, 1.5) < 0.04) | (np.mod(left, 1.5) < 0.04))
        colours[slabs] *= np.float32(0.8)
        kerb = (np.abs(np.abs(left) - self.half_width - 0.09) < 0.09) & ~self._at_crossing(s, 0)
        colours[kerb] = 0.68, 0.67, 0.65
        return colours

    def _labels(self, s: Float, left: Float) -> NDArray[np.uint8]:
        across = np.abs(left)
        labels = np.full(np.shape(s), Label.terrain, np.uint8)
        plaza = (s > self.plaza[0]) & (s < self.plaza[1]) & (left > 0)
        labels[plaza] = Label.other_flat
        walk = across < self.half_width + self.pavement
        labels[walk | self._at_crossing(s, self.pavement)] = Label.sidewalk
        at_crossing = self._at_crossing(s, 0)
        labels[(across < self.half_width) | at_crossing] = Label.driveable_surface
        labels[(across < self.island) & ~self._at_crossing(s, 5.0)] = Label.other_flat
        return labels

    def _at_crossing(self, s: Float, margin: float) -> NDArray[np.bool_]:
        if self.crossing is None:
            return np.zeros(np.shape(s), bool)
        near: NDArray[np.bool_] = np.abs(s - self.crossing) < self.crossing_half + margin
        return near

    def _white(self, s: Float, left: Float) -> NDArray[np.bool_]:
        """Dashed lane lines, edge lines and zebra crossings of the street."""
        lane = np.mod(np.abs(left), LANE_M)
        on_line = (np.minimum(lane, LANE_M - lane) < 0.07) & (np.abs(left) > 1)
        dash = on_line & (np.mod(s, 7.5) < 3.0)
        edge = np.abs(np.abs(left) - self.half_width + 0.25) < 0.06
        lines: NDArray[np.bool_] = (dash | edge) & ~self._at_crossing(s, 3.6)
        if self.crossing is None:
            return lines
        beside = np.abs(s - self.crossing) - self.crossing_half
        zebra = (beside > 0.6) & (beside < 3.4) & (np.mod(left, 1.0) < 0.5)
        zebra &= np.abs(left) < self.half_width - 0.3
        lines |= zebra
        return lines
