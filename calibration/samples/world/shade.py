"""Colours of what the rays have hit: paint, sun and sky light, shadows, haze, and the camera.

Deferred shading: for every pixel the surface point follows from the depth, paint from the solid's
material at that point, light from the surface's normal. Shadows on the ground come from one map
per scene, drawn by casting rays from the ground to the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calibration.samples.world.layout import Light, Scene
from calibration.samples.world.render import GROUND, SKY, Hits, Rays
from calibration.samples.world.solids import Float, Material, Solids

_SHADOW_STEP_M = 0.2
_SHADOW_REACH_M = 60.0
_TILE = 256  # side of the noise tile, a power of two


@dataclass(frozen=True)
class Painter:
    """Colours the pixels of one scene.

    Attributes:
        shadow: float32 ``[y, x]`` around the ego in steps of 0.2 m: 1 in the sun, 0 in shadow.
    """

    scene: Scene
    shadow: Float

    @classmethod
    def of(cls, scene: Scene) -> Painter:
        return cls(scene, _shadow_map(scene))

    def paint(self, rays: Rays, hits: Hits) -> Float:
        """Light that arrives at the camera, float32 ``[height, width, 3]``, about 0 to 1."""
        image = np.empty((*hits.depth.shape, 3), np.float32)
        sky, ground = hits.solid == SKY, hits.solid == GROUND
        solid = ~(sky | ground)
        image[sky] = _sky_colours(self.scene.light, _directions(rays, sky))
        for mask, colours in ((ground, self._ground), (solid, self._solids)):
            if mask.any():
                depth = hits.depth[mask]
                ways = _directions(rays, mask)
                points = rays.origin + depth[:, None] * ways
                distance = depth * np.sqrt((ways * ways).sum(1))
                lit = colours(points, hits.solid[mask])
                image[mask] = _through_air(self.scene.light, lit, distance)
        return image

    def _ground(self, points: Float, _: NDArray[np.int32]) -> Float:
        x, y = points[:, 0], points[:, 1]
        near = np.hypot(x, y) < _SHADOW_REACH_M
        grain = 0.86 + 0.18 * _noise(x * 4, y * 4) + 0.10 * _noise(x * 40, y * 40)
        light = self.scene.light
        sun = np.where(near, self._sun_at(x, y), np.float32(1))
        brightness = light.ambient + light.strength * light.sun[2] * sun
        lit: Float = self.scene.ground.colours(x, y) * (grain * brightness)[:, None]
        return lit

    def _sun_at(self, x: Float, y: Float) -> Float:
        side = len(self.shadow)
        column = ((x + _SHADOW_REACH_M) / _SHADOW_STEP_M).astype(np.int32).clip(0, side - 1)
        row = ((y + _SHADOW_REACH_M) / _SHADOW_STEP_M).astype(np.int32).clip(0, side - 1)
        values: Float = self.shadow[row, column]
        return values

    def _solids(self, points: Float, index: NDArray[np.int32]) -> Float:
        solids, light = self.scene.solids, self.scene.light
        unit, normal = _on_surface(solids, points, index)
        paint = solids.colour[index] * _pattern(solids, points, unit, index)
        facing = (normal @ np.array(light.sun, np.float32)).clip(0, 1)
        sky = 0.72 + 0.28 * normal[:, 2]  # surfaces that look up see more sky
        foot = (points[:, 2] / 0.5).clip(0.55, 1)  # less light arrives close to the ground
        lit: Float = paint * ((light.ambient * sky + light.strength * facing) * foot)[:, None]
        return lit


def develop(image: Float, rng: Generator) -> NDArray[np.uint8]:
    """What a camera makes of the light: lens blur, vignette, exposure, noise, 8 bits."""
    height, width = image.shape[:2]
    blurred = _blur(_blur(image, axis=0), axis=1)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    exposure = np.float32(rng.uniform(0.9, 1.1)) * (1 - 0.10 * (x * x + y * y))
    exposed = blurred * exposure[..., None]
    tone = exposed / (1 + 0.25 * exposed) * np.float32(1.25)  # highlights saturate softly
    noise = rng.standard_normal(tone.shape, dtype=np.float32)
    return (tone * 255 + 2.2 * noise).clip(0, 255).astype(np.uint8)


def _on_surface(solids: Solids, points: Float, index: NDArray[np.int32]) -> tuple[Float, Float]:
    """Points in the solids' own axes scaled to [-1, 1], and outward normals in the ego frame."""
    offset = points - solids.centre[index]
    cos, sin = solids.cos[index], solids.sin[index]
    local = np.stack(
        [
            cos * offset[:, 0] + sin * offset[:, 1],
            cos * offset[:, 1] - sin * offset[:, 0],
            offset[:, 2],
        ],
        axis=1,
    )
    unit = local / solids.half[index]
    face = np.abs(unit).argmax(1)
    normal = np.zeros_like(unit)
    rows = np.arange(len(unit))
    normal[rows, face] = np.sign(unit[rows, face])
    ball = solids.rounded[index]
    normal[ball] = unit[ball] / solids.half[index][ball]
    normal /= np.sqrt((normal * normal).sum(1, keepdims=True))
    x, y = normal[:, 0].copy(), normal[:, 1].copy()
    normal[:, 0], normal[:, 1] = cos * x - sin * y, sin * x + cos * y
    return unit, normal


def _pattern(solids: Solids, points: Float, unit: Float, index: NDArray[np.int32]) -> Float:
    """Factor on a solid's colour at each point, ``[n, 3]``."""
    grain = _noise(points[:, 0] * 9 + points[:, 2] * 5, points[:, 1] * 9 + points[:, 2] * 7)
    factor = np.repeat((0.93 + 0.14 * grain)[:, None], 3, axis=1)
    material = solids.material[index]
    for kind, draw in _PATTERNS.items():
        chosen = material == kind
        if chosen.any():
            factor[chosen] *= draw(unit[chosen], solids.half[index[chosen]], points[chosen])
    return factor


def _facade(unit: Float, half: Float, points: Float) -> Float:
    """Windows in rows; every one reflects a little differently."""
    side = np.abs(unit[:, 2]) < 0.999
    along = np.where(
        np.abs(unit[:, 0]) > np.abs(unit[:, 1]), unit[:, 1] * half[:, 1], unit[:, 0] * half[:, 0]
    )
    column, floor = along / 2.6, points[:, 2] / 3.1
    u, v = column - np.floor(column), floor - np.floor(floor)
    window = side & (np.abs(u - 0.5) < 0.27) & (np.abs(v - 0.55) < 0.27) & (points[:, 2] > 0.9)
    glass = 0.25 + 0.45 * _noise(np.floor(column) * 17, np.floor(floor) * 29)
    return _tinted(np.where(window, glass, np.float32(1)), window, (0.85, 0.97, 1.12))


def _glass(unit: Float, half: Float, points: Float) -> Float:
    side = (np.abs(unit[:, 2]) < 0.97) & (np.abs(unit[:, 2]) < 0.75)
    post = (np.abs(unit[:, 0]) > 0.93) & (np.abs(unit[:, 1]) > 0.93)
    pane = side & ~post
    return _tinted(
        np.where(pane, np.float32(0.22), np.float32(1)), pane, (0.9, 1.0, 1.12), floor=0.05
    )


def _band(unit: Float, half: Float, points: Float) -> Float:
    side = np.abs(unit[:, 2]) < 0.97
    pane = side & (unit[:, 2] > 0.1) & (unit[:, 2] < 0.75)
    along = np.where(np.abs(unit[:, 0]) > 0.99, unit[:, 1] * half[:, 1], unit[:, 0] * half[:, 0])
    pane &= np.mod(along, 1.4) > 0.12
    return _tinted(
        np.where(pane, np.float32(0.25), np.float32(1)), pane, (0.9, 1.0, 1.1), floor=0.05
    )


def _body(unit: Float, half: Float, points: Float) -> Float:
    """Lamps near the upper corners of both ends: red behind, white ahead; a dark sill below."""
    factor = np.where(unit[:, 2] < -0.7, np.float32(0.45), np.float32(1))[:, None].repeat(3, 1)
    lamp = (
        (np.abs(unit[:, 0]) > 0.985)
        & (np.abs(unit[:, 1]) > 0.62)
        & (np.abs(unit[:, 2] - 0.35) < 0.3)
    )
    factor[lamp & (unit[:, 0] < 0)] = 1.5, 0.15, 0.12
    factor[lamp & (unit[:, 0] > 0)] = 1.6, 1.6, 1.5
    return factor


def _stripes(unit: Float, half: Float, points: Float) -> Float:
    white = np.mod(unit[:, 0] * half[:, 0] + unit[:, 2] * half[:, 2], 0.5) < 0.25
    factor = np.ones((len(unit), 3), np.float32)
    factor[white] = 1.15, 3.0, 3.5
    return factor


def _leaves(unit: Float, half: Float, points: Float) -> Float:
    coarse = _noise(points[:, 0] * 3 + points[:, 2] * 2, points[:, 1] * 3 - points[:, 2] * 3)
    fine = _noise(points[:, 0] * 14 - points[:, 2] * 9, points[:, 1] * 14 + points[:, 2] * 11)
    factor: Float = (0.35 + 0.6 * coarse + 0.55 * fine)[:, None].repeat(3, 1)
    return factor


_PATTERNS = {
    Material.FACADE: _facade,
    Material.GLASS: _glass,
    Material.BAND: _band,
    Material.BODY: _body,
    Material.STRIPES: _stripes,
    Material.LEAVES: _leaves,
}


def _tinted(
    factor: Float, where: NDArray[np.bool_], tint: tuple[float, float, float], floor: float = 0.0
) -> Float:
    """Grey ``factor`` as colour, tinted where a pane of glass is."""
    result = (factor + np.float32(floor))[:, None].repeat(3, 1)
    result[where] *= np.array(tint, np.float32)
    return result


def _sky_colours(light: Light, ways: Float) -> Float:
    horizon, above = (np.array(colour, np.float32) for colour in light.sky)
    flat = np.hypot(ways[:, 0], ways[:, 1])
    rise = (ways[:, 2] / np.maximum(flat, 1e-3)).clip(0, 1)
    plane = 40 / np.maximum(rise, 0.05)
    angle_x, angle_y = ways[:, 0] / flat * plane, ways[:, 1] / flat * plane
    cloud = _noise(angle_x * 0.25, angle_y * 0.25) * 0.6 + _noise(angle_x, angle_y) * 0.4
    white = ((cloud - 0.75 + 0.5 * light.clouds) * 3).clip(0, 1)[:, None] * np.float32(0.6)
    share = np.sqrt(rise)[:, None]
    colours: Float = (horizon * (1 - share) + above * share) * (1 - white) + np.float32(0.9) * white
    return colours


def _through_air(light: Light, colours: Float, distance: Float) -> Float:
    air = (distance / (distance + light.haze_m))[:, None]
    seen: Float = colours * (1 - air) + np.array(light.sky[0], np.float32) * air
    return seen


def _directions(rays: Rays, mask: NDArray[np.bool_]) -> Float:
    return np.stack([axis[mask] for axis in rays.directions], axis=1)


def _blur(image: Float, axis: int) -> Float:
    """Weights 1, 4, 1 along one axis."""
    before, after = np.roll(image, 1, axis), np.roll(image, -1, axis)
    return (before + 4 * image + after) / np.float32(6)


def _shadow_map(scene: Scene) -> Float:
    """Where the sun reaches the ground: a ray to the sun against every solid, near the solid only."""
    side = int(2 * _SHADOW_REACH_M / _SHADOW_STEP_M)
    sunny = np.ones((side, side), np.float32)
    solids, sun = scene.solids, np.array(scene.light.sun)
    slope = sun[:2] / sun[2]
    for index in range(len(solids)):
        centre, half = solids.centre[index], solids.half[index]
        reach = np.hypot(half[0], half[1])
        top = np.array([0.0, centre[2] + half[2]])
        ends = centre[:2] - np.outer(top, slope)  # a shadow runs from the foot away from the sun
        low = ((ends.min(0) - reach + _SHADOW_REACH_M) / _SHADOW_STEP_M).astype(int).clip(0, side)
        high = ((ends.max(0) + reach + _SHADOW_REACH_M) / _SHADOW_STEP_M).astype(int) + 1
        high = high.clip(0, side)
        if (low >= high).any():
            continue
        x = (np.arange(low[0], high[0]) + 0.5) * _SHADOW_STEP_M - _SHADOW_REACH_M - centre[0]
        y = (np.arange(low[1], high[1]) + 0.5) * _SHADOW_STEP_M - _SHADOW_REACH_M - centre[1]
        hit = _reaches(solids, index, x[None, :], y[:, None], sun)
        sunny[low[1] : high[1], low[0] : high[0]][hit] = 0.0
    soft = _blur(_blur(sunny, 0), 1)
    return soft.astype(np.float32)


def _reaches(
    solids: Solids,
    index: int,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sun: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether the ray from ground point (x, y, relative to the centre) to the sun meets a solid."""
    cos, sin, half = solids.cos[index], solids.sin[index], solids.half[index]
    o = [
        (cos * x + sin * y) / half[0],
        (cos * y - sin * x) / half[1],
        -solids.centre[index][2] / half[2],
    ]
    d = [
        (cos * sun[0] + sin * sun[1]) / half[0],
        (cos * sun[1] - sin * sun[0]) / half[1],
        sun[2] / half[2],
    ]
    if solids.rounded[index]:
        along = sum(a * b for a, b in zip(o, d, strict=True)) / sum(b * b for b in d)
        nearest = sum((a - along * b) ** 2 for a, b in zip(o, d, strict=True))
        return np.asarray(nearest < 1)
    enter, leave = (
        np.full(np.broadcast(x, y).shape, -np.inf),
        np.full(np.broadcast(x, y).shape, np.inf),
    )
    for start, way in zip(o, d, strict=True):
        inverse = 1 / (way if abs(way) > 1e-6 else 1e-6)
        middle, extent = -start * inverse, abs(inverse)
        enter, leave = np.maximum(enter, middle - extent), np.minimum(leave, middle + extent)
    return np.asarray((enter < leave) & (leave > 0))


@lru_cache(maxsize=1)
def _noise_tile() -> Float:
    """Smooth noise, 0 to 1, that repeats at its borders: three octaves of random values."""
    rng = np.random.default_rng(20240607)
    tile = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in ((64, 0.4), (128, 0.35), (256, 0.25)):
        coarse = rng.random((cells, cells), dtype=np.float32)
        fine = coarse.repeat(_TILE // cells, 0).repeat(_TILE // cells, 1)
        for _ in range(_TILE // cells // 2):
            fine = _blur(_blur(fine, 0), 1)
        tile += np.float32(weight) * fine
    return (tile - tile.min()) / (tile.max() - tile.min())


def _noise(x: Float, y: Float) -> Float:
    column, row = x.astype(np.int32) & (_TILE - 1), y.astype(np.int32) & (_TILE - 1)
    values: Float = _noise_tile()[row, column]
    return values
