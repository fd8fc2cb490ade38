"""How a street moves: the vehicle's own way along it, and the speed of every lane.

All vehicles of a lane drive at one speed, so that none runs into another. In a street that waits at
a red light nothing moves but people on foot. Positions are in the frame of the vehicle at the
start, seconds count from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from calibration.samples.world.solids import Matrix

WALKING_M_S = 1.3
_SWAY_M = 0.25


@dataclass(frozen=True)
class Motion:
    """Speeds in metres a second.

    Attributes:
        seconds: how long everything moves.
        ego: speed of the vehicle.
        spread: lanes beside the vehicle's own differ from it by up to this.
        oncoming: speed of the nearest oncoming lane.
        wave: length of the vehicle's sway in its lane, metres.
        phase: of that sway, radians.
    """

    seconds: float
    ego: float
    spread: float
    oncoming: float
    wave: float
    phase: float

    @classmethod
    def random(cls, rng: Generator, seconds: float) -> Motion:
        waits = rng.random() < 0.2
        return cls(
            seconds=seconds,
            ego=0.0 if waits else float(rng.uniform(4.0, 11.0)),
            spread=0.0 if waits else float(rng.uniform(0.5, 2.0)),
            oncoming=0.0 if waits else float(rng.uniform(5.0, 12.0)),
            wave=float(rng.uniform(40, 80)),
            phase=float(rng.uniform(0, 2 * math.pi)),
        )

    @property
    def travel(self) -> float:
        """Metres that the vehicle drives in all."""
        return self.ego * self.seconds

    @property
    def waits(self) -> bool:
        return self.ego == 0

    def lane(self, side: int, number: int, own: int) -> float:
        """Speed along the street of a lane; the vehicle drives on side -1 in lane ``own``."""
        if side < 0:
            return self.ego if number == own else self.ego + self.spread * (own - number)
        return -(self.oncoming - self.spread * number)

    def window(self, speed: float, reach: float) -> tuple[float, float]:
        """Where along the street those start that come within ``reach`` of the vehicle."""
        gained = (self.ego - speed) * self.seconds
        return -reach + min(0.0, gained), reach + max(0.0, gained)

    def pose(self, seconds: float, heading: float) -> Matrix:
        """The vehicle's pose, 4x4, for a street of that heading (radians)."""
        along = self.ego * seconds
        angle = 2 * math.pi * along / self.wave + self.phase
        left = _SWAY_M * (math.sin(angle) - math.sin(self.phase))
        slope = math.atan(_SWAY_M * 2 * math.pi / self.wave * math.cos(angle))
        start = math.atan(_SWAY_M * 2 * math.pi / self.wave * math.cos(self.phase))
        yaw = 0.0 if self.waits else slope - start
        cos, sin = math.cos(heading), math.sin(heading)
        pose = np.eye(4)
        pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
        pose[:2, 3] = along * cos - left * sin, along * sin + left * cos
        return pose
