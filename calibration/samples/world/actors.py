"""What stands and drives in a street, as parts with plausible sizes (x ahead, z up, metres)."""

from __future__ import annotations

from numpy.random import Generator

from calibration.samples.world.solids import Colour, Material, Part

_TYRE: Colour = (0.07, 0.07, 0.08)
_STEEL: Colour = (0.45, 0.46, 0.48)
_PAINTS: tuple[Colour, ...] = (
    (0.88, 0.88, 0.86),
    (0.80, 0.81, 0.83),
    (0.55, 0.57, 0.60),
    (0.13, 0.13, 0.15),
    (0.09, 0.10, 0.13),
    (0.62, 0.10, 0.10),
    (0.10, 0.22, 0.48),
    (0.16, 0.34, 0.26),
    (0.70, 0.55, 0.28),
)
_BUS_PAINTS: tuple[Colour, ...] = (
    (0.80, 0.14, 0.12),
    (0.86, 0.85, 0.82),
    (0.20, 0.42, 0.66),
    (0.90, 0.68, 0.12),
    (0.25, 0.50, 0.33),
)
_CLOTHES: tuple[Colour, ...] = (
    (0.12, 0.14, 0.22),
    (0.70, 0.68, 0.62),
    (0.60, 0.14, 0.16),
    (0.20, 0.38, 0.60),
    (0.85, 0.62, 0.15),
    (0.18, 0.18, 0.18),
    (0.32, 0.45, 0.30),
)
_SKIN: tuple[Colour, ...] = ((0.85, 0.66, 0.54), (0.60, 0.42, 0.30), (0.36, 0.24, 0.17))
_WALLS: tuple[Colour, ...] = (
    (0.66, 0.58, 0.49),
    (0.60, 0.36, 0.29),
    (0.72, 0.71, 0.67),
    (0.50, 0.53, 0.57),
    (0.76, 0.67, 0.53),
    (0.42, 0.40, 0.38),
)


def pick(rng: Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of ``colours``, a little lighter or darker."""
    tone = rng.uniform(0.88, 1.08)
    red, green, blue = colours[rng.integers(len(colours))]
    return min(1.0, red * tone), min(1.0, green * tone), min(1.0, blue * tone)


def car(rng: Generator) -> list[Part]:
    length, width, height = rng.uniform(3.9, 4.9), rng.uniform(1.75, 1.95), rng.uniform(1.42, 1.75)
    paint = pick(rng, _PAINTS)
    waist = 0.55 * height
    cabin = (0.55 * length, 0.86 * width, height - waist)
    return [
        Part((0, 0, (0.25 + waist) / 2), (length, width, waist - 0.25), paint, Material.BODY),
        Part((-0.06 * length, 0, (waist + height) / 2), cabin, paint, Material.GLASS),
        *_wheels(0.32 * length, width, 0.34),
    ]


def truck(rng: Generator) -> list[Part]:
    length, width, height = rng.uniform(6.5, 9.5), rng.uniform(2.3, 2.6), rng.uniform(2.8, 3.8)
    cargo = length - 2.2
    walls = pick(rng, _PAINTS[:4])
    cab = pick(rng, _PAINTS)
    return [
        Part((length / 2 - 0.95, 0, 1.5), (1.9, width, 2.2), cab, Material.BAND),
        Part((-1.1, 0, (0.9 + height) / 2), (cargo, width, height - 0.9), walls, Material.BODY),
        Part((0, 0, 0.75), (length, 0.7 * width, 0.3), _STEEL),
        *_wheels(0.34 * length, width, 0.48),
    ]


def bus(rng: Generator) -> list[Part]:
    length, paint = rng.uniform(10.0, 12.5), pick(rng, _BUS_PAINTS)
    return [
        Part((0, 0, 1.75), (length, 2.55, 2.8), paint, Material.BAND),
        *_wheels(0.33 * length, 2.55, 0.48),
    ]


def trailer(rng: Generator) -> list[Part]:
    length, height = rng.uniform(6.0, 11.0), rng.uniform(2.6, 3.8)
    return [
        Part((0, 0, (1.0 + height) / 2), (length, 2.5, height - 1.0), pick(rng, _PAINTS)),
        Part((0, 0, 0.9), (length, 1.2, 0.2), _STEEL),
        *_wheels(0.36 * length, 2.5, 0.48),
    ]


def construction_vehicle(rng: Generator) -> list[Part]:
    yellow = pick(rng, ((0.90, 0.66, 0.08), (0.86, 0.45, 0.08)))
    reach = rng.uniform(2.0, 3.2)
    return [
        Part((-0.4, 0, 1.3), (3.6, 2.2, 1.1), yellow),
        Part((0.2, 0.3, 2.4), (1.5, 1.3, 1.3), yellow, Material.GLASS),
        Part((1.6 + reach / 2, 0, 2.3), (reach, 0.45, 0.5), yellow),
        Part((1.6 + reach, 0, 1.2), (0.5, 0.4, 2.0), yellow),
        Part((1.9 + reach, 0, 0.5), (1.0, 1.4, 0.8), _STEEL),
        *_wheels(1.25, 2.4, 0.65),
    ]


def motorcycle(rng: Generator) -> list[Part]:
    parts = [
        Part((0, 0, 0.62), (1.3, 0.32, 0.5), pick(rng, _PAINTS)),
        Part((0.75, 0, 0.32), (0.64, 0.16, 0.64), _TYRE, rounded=True),
        Part((-0.7, 0, 0.32), (0.64, 0.16, 0.64), _TYRE, rounded=True),
    ]
    return parts + _rider(rng, 0.75) if rng.random() < 0.6 else parts


def bicycle(rng: Generator) -> list[Part]:
    parts = [
        Part((0.5, 0, 0.34), (0.66, 0.08, 0.66), _TYRE, rounded=True),
        Part((-0.5, 0, 0.34), (0.66, 0.08, 0.66), _TYRE, rounded=True),
        Part((0, 0, 0.62), (0.9, 0.08, 0.10), pick(rng, _PAINTS)),
        Part((0.42, 0, 0.85), (0.08, 0.5, 0.35), _STEEL),
    ]
    return parts + _rider(rng, 0.8) if rng.random() < 0.7 else parts


def pedestrian(rng: Generator) -> list[Part]:
    height = rng.uniform(1.5, 1.9)
    step = rng.uniform(0.0, 0.22)
    trousers, shirt = pick(rng, _CLOTHES), pick(rng, _CLOTHES)
    hip, neck = 0.48 * height, 0.84 * height
    return [
        Part((step, 0.10, hip / 2), (0.17, 0.16, hip), trousers),
        Part((-step, -0.10, hip / 2), (0.17, 0.16, hip), trousers),
        Part((0, 0, (hip + neck) / 2), (0.24, 0.38, neck - hip), shirt),
        Part((step / 2, -0.25, 0.66 * height), (0.12, 0.11, 0.34 * height), shirt),
        Part((-step / 2, 0.25, 0.66 * height), (0.12, 0.11, 0.34 * height), shirt),
        Part((0, 0, 0.92 * height), (0.22, 0.20, 0.26), pick(rng, _SKIN), rounded=True),
    ]


def cone(rng: Generator) -> list[Part]:
    height = rng.uniform(0.65, 0.95)
    orange: Colour = (0.95, 0.36, 0.07)
    thirds = ((0.17, 0.30, orange), (0.5, 0.22, (0.95, 0.95, 0.93)), (0.83, 0.13, orange))
    stack = [Part((0, 0, at * height), (w, w, height / 3), paint) for at, w, paint in thirds]
    return [Part((0, 0, 0.03), (0.42, 0.42, 0.06), orange), *stack]


def barrier(rng: Generator) -> list[Part]:
    red = pick(rng, ((0.80, 0.14, 0.10), (0.90, 0.50, 0.10)))
    return [Part((0, 0, 0.5), (2.0, 0.4, 1.0), red, Material.STRIPES)]


def litter_bin(rng: Generator) -> list[Part]:
    """An object of the class ``others``."""
    return [Part((0, 0, 0.55), (0.7, 0.7, 1.1), pick(rng, ((0.15, 0.32, 0.22), (0.3, 0.3, 0.33))))]


def tree(rng: Generator) -> list[Part]:
    trunk, crown = rng.uniform(1.8, 2.8), rng.uniform(2.2, 4.2)
    green, bark = _leaf_colour(rng), pick(rng, ((0.30, 0.22, 0.16), (0.36, 0.31, 0.26)))
    stem = trunk + 0.5 * crown
    parts = [Part((0, 0, stem / 2), (0.28, 0.28, stem), bark)]
    for _ in range(rng.integers(5, 9)):
        x, y = rng.uniform(-0.34, 0.34, 2) * crown
        z = trunk + crown * rng.uniform(0.25, 0.85)
        size = crown * rng.uniform(0.4, 0.7)
        extents = (size, size, 0.8 * size)
        parts.append(Part((x, y, z), extents, green, Material.LEAVES, rounded=True))
    return parts


def bush(rng: Generator) -> list[Part]:
    size, height = rng.uniform(1.0, 2.2), rng.uniform(0.8, 1.6)
    extents = (size, size, height)
    return [Part((0, 0, 0.45 * height), extents, _leaf_colour(rng), Material.LEAVES, rounded=True)]


def street_lamp(rng: Generator) -> list[Part]:
    height = rng.uniform(5.5, 8.0)
    return [
        Part((0, 0, height / 2), (0.16, 0.16, height), _STEEL),
        Part((0.9, 0, height), (1.9, 0.12, 0.12), _STEEL),
    ]


def traffic_sign(rng: Generator) -> list[Part]:
    face = pick(rng, ((0.10, 0.25, 0.62), (0.82, 0.12, 0.12), (0.92, 0.92, 0.90)))
    return [
        Part((0, 0, 1.1), (0.08, 0.08, 2.2), _STEEL),
        Part((0, 0, 2.5), (0.06, 0.75, 0.75), face),
    ]


def fence(rng: Generator, length: float) -> list[Part]:
    height = rng.uniform(0.9, 2.0)
    return [Part((0, 0, height / 2), (length, 0.2, height), pick(rng, _WALLS))]


def building(rng: Generator, length: float, depth: float) -> list[Part]:
    """A house of ``length`` along the street."""
    height = rng.uniform(6.0, 22.0)
    wall = pick(rng, _WALLS)
    plinth: Colour = tuple(0.6 * c for c in wall)  # type: ignore[assignment]
    return [
        Part((0, 0, height / 2), (length, depth, height), wall, Material.FACADE),
        Part((0, 0, 0.4), (length + 0.2, depth + 0.2, 0.8), plinth),
        Part((0, 0, height), (length + 0.5, depth + 0.5, 0.4), plinth),
    ]


def _wheels(axle: float, width: float, radius: float) -> list[Part]:
    size = (2 * radius, 0.24, 2 * radius)
    return [
        Part((x, y, radius), size, _TYRE, rounded=True)
        for x in (-axle, axle)
        for y in (-width / 2 + 0.06, width / 2 - 0.06)
    ]


def _rider(rng: Generator, seat: float) -> list[Part]:
    shirt = pick(rng, _CLOTHES)
    return [
        Part((-0.1, 0, seat + 0.12), (0.5, 0.4, 0.3), pick(rng, _CLOTHES)),
        Part((0.0, 0, seat + 0.52), (0.28, 0.44, 0.6), shirt),
        Part((0.05, 0, seat + 0.98), (0.26, 0.24, 0.28), pick(rng, _SKIN), rounded=True),
    ]


def _leaf_colour(rng: Generator) -> Colour:
    return pick(rng, ((0.22, 0.36, 0.13), (0.30, 0.42, 0.17), (0.16, 0.29, 0.14)))
