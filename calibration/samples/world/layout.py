"""A street with everything on it: where actors stand, lane by lane, from one random generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from calibration.samples.world import actors
from calibration.samples.world.ground import LANE_M, Ground
from calibration.samples.world.motion import WALKING_M_S, Motion
from calibration.samples.world.solids import Actor, Assembly, Label, Part, Solids

REACH_M = 52.0
"""Actors stand within this distance along the street."""


@dataclass(frozen=True)
class Light:
    """Sun and air of one scene.

    Attributes:
        sun: unit vector towards it.
        strength, ambient: of sun and sky light.
        haze_m: distance at which half of a surface's colour is air.
        sky: colours at the horizon and above.
        clouds: 0 clear to 1 overcast.
    """

    sun: tuple[float, float, float]
    strength: float
    ambient: float
    haze_m: float
    sky: tuple[tuple[float, float, float], tuple[float, float, float]]
    clouds: float


@dataclass(frozen=True)
class Scene:
    """One moment of the world, seen from the ego frame."""

    ground: Ground
    solids: Solids
    light: Light
    actors: tuple[Actor, ...] = ()


def make_scene(seed: int, index: int) -> Scene:
    """Scene ``index`` of the world ``seed``; the same arguments give the same scene."""
    return _scene(np.random.default_rng([seed, index]), None)


def make_moving_scene(seed: int, index: int, seconds: float) -> tuple[Scene, Motion]:
    """Drive ``index`` of the world ``seed`` at its start, and how it moves for ``seconds``."""
    motion = Motion.random(np.random.default_rng([seed, index, 1]), seconds)
    return _scene(np.random.default_rng([seed, index, 2]), motion), motion


def _scene(rng: Generator, motion: Motion | None) -> Scene:
    ground = Ground.random(rng)
    street = _Street(rng, ground, motion)
    street.build()
    assembly = street.assembly
    return Scene(ground, assembly.solids(), _light(rng), tuple(assembly.actors))


def _light(rng: Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(18, 65))
    clouds = float(rng.uniform(0, 1))
    flat = math.cos(elevation)
    grey = 0.72 - 0.1 * clouds
    horizon = (grey + 0.08, grey + 0.10, grey + 0.12)
    blue = (0.25 + 0.42 * clouds, 0.45 + 0.24 * clouds, 0.78 - 0.06 * clouds)
    return Light(
        sun=(flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)),
        strength=1.05 - 0.75 * clouds,
        ambient=0.48 + 0.3 * clouds,
        haze_m=float(rng.uniform(150, 500)),
        sky=(horizon, blue),
        clouds=clouds,
    )


Maker = Callable[[Generator], list[Part]]

_TRAFFIC: tuple[tuple[float, Label, Maker, float, float], ...] = (
    (0.68, Label.car, actors.car, 2.5, 1.1),
    (0.11, Label.truck, actors.truck, 4.8, 1.4),
    (0.06, Label.bus, actors.bus, 6.3, 1.4),
    (0.05, Label.trailer, actors.trailer, 5.6, 1.4),
    (0.05, Label.motorcycle, actors.motorcycle, 1.2, 0.5),
    (0.05, Label.bicycle, actors.bicycle, 1.0, 0.5),
)
"""Share, class, maker, half length and half width (metres, of the largest)."""

_TWO_WHEELERS: tuple[tuple[Label, Maker], ...] = (
    (Label.bicycle, actors.bicycle),
    (Label.motorcycle, actors.motorcycle),
)

_EGO = ((-1.5, 0.0, 1.6), (0.5, 0.0, 1.6), (2.5, 0.0, 1.6), (5.0, 0.0, 2.0))
"""Circles of the ego and the road before it, where nothing may stand: x, y, radius."""


@dataclass
class _Street:
    """Fills one street; every method places one kind of thing."""

    rng: Generator
    ground: Ground
    motion: Motion | None = None
    assembly: Assembly = field(default_factory=Assembly)
    taken: list[tuple[float, float, float]] = field(default_factory=lambda: list(_EGO))

    @property
    def travel(self) -> float:
        """Metres of street that the vehicle drives through."""
        return self.motion.travel if self.motion else 0.0

    @property
    def moves(self) -> bool:
        return self.motion is not None and not self.motion.waits

    def number(self, low: int, high: int) -> int:
        """As many as a longer street has of what a short one has ``low`` to ``high`` of."""
        return round(int(self.rng.integers(low, high)) * (1 + self.travel / (2 * REACH_M)))

    def build(self) -> None:
        self.houses()
        self.greenery()
        self.furniture()
        self.traffic()
        self.parked()
        self.works()
        self.walkers()

    def place(
        self,
        parts: list[Part],
        label: Label,
        s: float,
        left: float,
        yaw: float,
        radius: float,
        reach: float = 0.0,
        speed: float = 0.0,
    ) -> None:
        """Stand an actor at street position (s, left), unless something else stands there.

        Args:
            radius: of the circles that it takes up, metres.
            reach: from its centre to the centre of its foremost circle, metres.
            speed: along the street, metres a second.
        """
        x, y = self.ground.to_ego(s, left)
        yaw += self.ground.heading
        steps = np.linspace(-reach, reach, 1 + math.ceil(2 * reach / max(radius, 0.1)))
        circles = [(x + step * math.cos(yaw), y + step * math.sin(yaw), radius) for step in steps]
        if any(math.hypot(x - a, y - b) < r + t for x, y, r in circles for a, b, t in self.taken):
            return
        self.taken += circles
        heading = self.ground.heading
        velocity = (speed * math.cos(heading), speed * math.sin(heading))
        self.assembly.add(parts, label, x, y, yaw, velocity)

    def houses(self) -> None:
        rng, ground = self.rng, self.ground
        for side in (-1, 1):
            s = -90.0
            while s < 110 + self.travel:
                length, depth = rng.uniform(9, 24), rng.uniform(8, 14)
                setback = ground.half_width + ground.pavement + rng.uniform(0.4, 9)
                middle = s + length / 2
                s += length + (rng.uniform(0.0, 10) if rng.random() < 0.6 else 0.0)
                plaza = ground.plaza[0] - length / 2 < middle < ground.plaza[1] + length / 2
                if self._in_crossing(middle, length / 2 + 3) or (side > 0 and plaza):
                    continue
                if rng.random() < 0.2:
                    continue
                x, y = ground.to_ego(middle, side * (setback + depth / 2))
                parts = actors.building(rng, length, depth)
                self.assembly.add(parts, Label.manmade, x, y, ground.heading)

    def greenery(self) -> None:
        rng, edge = self.rng, self.ground.half_width + self.ground.pavement
        for side in (-1, 1):
            if rng.random() < 0.25:
                continue
            step, s = rng.uniform(6, 11), -REACH_M
            while s < REACH_M + self.travel:
                s += step * rng.uniform(0.7, 1.4)
                if not self._in_crossing(s, 3):
                    left = side * (edge - rng.uniform(0.2, 0.9))
                    self.place(actors.tree(rng), Label.vegetation, s, left, rng.uniform(0, 6), 0.5)
        for _ in range(self.number(4, 14)):
            s, side = rng.uniform(-REACH_M, REACH_M + self.travel), rng.choice([-1, 1])
            if not self._in_crossing(s, 5):
                left = side * (edge + rng.uniform(0.6, 7))
                self.place(actors.bush(rng), Label.vegetation, s, left, 0.0, 0.9)

    def furniture(self) -> None:
        rng, kerb = self.rng, self.ground.half_width
        for side in (-1, 1):
            for s in np.arange(-45, 46 + self.travel, rng.uniform(16, 26)):
                lamp = actors.street_lamp(rng)
                self.place(lamp, Label.manmade, s, side * (kerb + 0.5), -side * math.pi / 2, 0.3)
            for _ in range(self.number(1, 5)):
                s = rng.uniform(-40, 40 + self.travel)
                sign = actors.traffic_sign(rng)
                self.place(sign, Label.manmade, s, side * (kerb + 0.6), 0.0, 0.4)
            if rng.random() < 0.4:
                length, s = rng.uniform(8, 20), rng.uniform(-30, 30)
                if not self._in_crossing(s, length / 2 + 2):
                    x, y = self.ground.to_ego(s, side * (kerb + self.ground.pavement + 0.2))
                    parts = actors.fence(rng, length)
                    self.assembly.add(parts, Label.manmade, x, y, self.ground.heading)
            if rng.random() < 0.7:
                s, left = rng.uniform(-25, 25), side * (kerb + rng.uniform(1.0, 1.8))
                self.place(actors.litter_bin(rng), Label.others, s, left, 0.0, 0.6)

    def traffic(self) -> None:
        rng = self.rng
        lanes = int(self.ground.half_width // LANE_M)
        density = rng.uniform(0.25, 0.8)
        shares = np.array([kind[0] for kind in _TRAFFIC])
        for side in (-1, 1):
            for lane in range(lanes):
                speed, (low, high) = self._lane(side, lane)
                s = low + rng.uniform(0, 10)
                while s < high:
                    _, label, make, half, width = _TRAFFIC[rng.choice(len(_TRAFFIC), p=shares)]
                    s += half
                    left = side * (lane + 0.5) * LANE_M + rng.normal(0, 0.2)
                    if self.ground.island:
                        left += side * 0.5
                    yaw = (0.0 if side < 0 else math.pi) + rng.normal(0, 0.03)
                    if rng.random() < density:
                        self.place(make(rng), label, s, left, yaw, width, half - width, speed)
                    s += half + 1.0 + rng.exponential(9)

    def parked(self) -> None:
        rng = self.rng
        for side in (-1, 1):
            if rng.random() < 0.4:
                continue
            for s in np.arange(-44, 45 + self.travel, 5.6):
                if rng.random() < 0.5 or self._in_crossing(s, 8):
                    continue
                left = side * (self.ground.half_width - (-0.3 if self.moves else 1.0))
                yaw = (0.0 if side < 0 else math.pi) + rng.normal(0, 0.02)
                self.place(actors.car(rng), Label.car, s, left, yaw, 1.1, 1.4)

    def works(self) -> None:
        """A construction site at the kerb."""
        rng = self.rng
        if rng.random() < 0.45:
            return
        start, length = rng.uniform(6, 22) * rng.choice([-1, 1]), rng.uniform(6, 12)
        side = int(rng.choice([-1, 1]))
        edge = side * (self.ground.half_width - (-0.5 if self.moves else 2.6))
        for s in np.arange(start, start + length, 2.1):
            if rng.random() < 0.6:
                self.place(actors.barrier(rng), Label.barrier, s, edge, 0.0, 0.3, 0.7)
            else:
                self.place(actors.cone(rng), Label.traffic_cone, s, edge, 0.0, 0.3)
        for _ in range(rng.integers(2, 6)):
            s, left = start + rng.uniform(-4, 0), edge + side * rng.uniform(0, 2)
            self.place(actors.cone(rng), Label.traffic_cone, s, left, 0.0, 0.3)
        digger, s = actors.construction_vehicle(rng), start + length / 2
        aside = 2.2 if self.moves else 0.5
        left, yaw = side * (self.ground.half_width + aside), rng.uniform(-0.5, 0.5)
        self.place(digger, Label.construction_vehicle, s, left, yaw, 2.2)

    def walkers(self) -> None:
        rng, ground = self.rng, self.ground
        for _ in range(self.number(4, 22)):
            s, side = rng.uniform(-35, 35 + self.travel), rng.choice([-1, 1])
            left = side * (ground.half_width + rng.uniform(0.9, ground.pavement - 0.3))
            yaw = rng.choice([0, math.pi]) + rng.normal(0, 0.4)
            speed = self._walk(s, left, 1 if math.cos(yaw) > 0 else -1)
            walker = actors.pedestrian(rng)
            self.place(walker, Label.pedestrian, s, left, yaw, 0.35, speed=speed)
        if ground.crossing is not None and not self.moves:
            edge = ground.crossing - math.copysign(ground.crossing_half + 2, ground.crossing)
            for _ in range(rng.integers(0, 5)):
                left = rng.uniform(-ground.half_width, ground.half_width)
                yaw = rng.choice([-1, 1]) * math.pi / 2
                walker = actors.pedestrian(rng)
                self.place(walker, Label.pedestrian, edge + rng.normal(0, 0.6), left, yaw, 0.35)
        for _ in range(rng.integers(0, 4)):
            s, side = rng.uniform(-30, 30), rng.choice([-1, 1])
            left = side * (ground.half_width + rng.uniform(0.8, 1.4))
            label, make = _TWO_WHEELERS[rng.integers(2)]
            self.place(make(rng), label, s, left, rng.uniform(0, 6), 0.8)

    def _lane(self, side: int, number: int) -> tuple[float, tuple[float, float]]:
        """Speed of a lane, and where along the street its vehicles start."""
        if self.motion is None:
            return 0.0, (-REACH_M, REACH_M)
        own = int(self.ground.offset // LANE_M)
        speed = self.motion.lane(side, number, own)
        return speed, self.motion.window(speed, REACH_M)

    def _walk(self, s: float, left: float, way: int) -> float:
        """Speed of a person there: 0 if something stands in the way."""
        if self.motion is None:
            return 0.0
        steps = np.arange(0.0, WALKING_M_S * self.motion.seconds + 1.0, 0.3)[1:]
        path = [self.ground.to_ego(s + way * step, left) for step in steps]
        free = all(math.hypot(x - a, y - b) > t + 0.35 for x, y in path for a, b, t in self.taken)
        return way * WALKING_M_S if free else 0.0

    def _in_crossing(self, s: float, margin: float) -> bool:
        ground = self.ground
        return ground.crossing is not None and (
            abs(s - ground.crossing) < ground.crossing_half + margin
        )
