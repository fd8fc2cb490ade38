"""Colours of what the rays have hit: paint, sun and sky light, shadows, haze, and the camera.

Deferred shading: for every pixel the surface point follows from the depth, paint from the solid's
material at that point, light from the surface's normal (Lambert) and the shadow map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calibration.samples.world.layout import Light, Scene
from calibration.samples.world.materials import Surface, pattern
from calibration.samples.world.noise import noise
from calibration.samples.world.render import GROUND, SKY, Hits, Rays
from calibration.samples.world.shadows import ShadowMap
from calibration.samples.world.solids import Float, Solids


@dataclass(frozen=True)
class Painter:
    """Colours the pixels of one scene."""

    scene: Scene
    shadows: ShadowMap

    @classmethod
    def of(cls, scene: Scene, middle: tuple[float, float] = (0.0, 0.0)) -> Painter:
        """A painter with shadows around ``middle``, metres."""
        return cls(scene, ShadowMap.of(scene.solids, scene.light.sun, middle))

    def paint(self, rays: Rays, hits: Hits) -> Float:
        """Light that arrives at the camera, float32 ``[height, width, 3]``, about 0 to 1."""
        light = self.scene.light
        image = np.empty((*hits.depth.shape, 3), np.float32)
        sky, ground = hits.solid == SKY, hits.solid == GROUND
        solid = ~(sky | ground)
        image[sky] = _sky(light, _directions(rays, sky))
        for mask in (ground, solid):
            depth, ways = hits.depth[mask], _directions(rays, mask)
            points = rays.origin + depth[:, None] * ways
            lit = self._ground(points) if mask is ground else self._solids(points, hits.solid[mask])
            distance = depth * np.sqrt((ways * ways).sum(axis=1))
            image[mask] = _through_air(light, lit, distance)
        return image

    def _ground(self, points: Float) -> Float:
        x, y = points[:, 0], points[:, 1]
        grain = 0.84 + 0.20 * noise(x * 4, y * 4) + 0.12 * noise(x * 40, y * 40)
        light = self.scene.light
        brightness = light.ambient + light.strength * light.sun[2] * self.shadows.at(x, y)
        lit: Float = self.scene.ground.colours(x, y) * (grain * brightness)[:, None]
        return lit

    def _solids(self, points: Float, index: NDArray[np.int32]) -> Float:
        solids, light = self.scene.solids, self.scene.light
        surface, normal = on_surface(solids, points, index)
        paint = solids.colour[index] * pattern(surface, solids.material[index])
        facing = (normal @ np.array(light.sun, np.float32)).clip(0, 1)
        above = 0.72 + 0.28 * normal[:, 2]  # surfaces that look up see more sky
        foot = (points[:, 2] / 0.5).clip(0.55, 1)  # less light arrives close to the ground
        lit: Float = paint * ((light.ambient * above + light.strength * facing) * foot)[:, None]
        return lit


def develop(image: Float, rng: Generator) -> NDArray[np.uint8]:
    """What a camera makes of the light: lens blur, vignette, exposure, noise, 8 bits."""
    height, width = image.shape[:2]
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 4 * image + np.roll(image, -1, axis)) / np.float32(6)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    exposure = np.float32(rng.uniform(0.9, 1.1)) * (1 - np.float32(0.10) * (x * x + y * y))
    exposed = image * exposure[..., None]
    tone = exposed / (1 + np.float32(0.25) * exposed) * np.float32(1.25)  # highlights give way
    grain = rng.standard_normal(tone.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = (tone * 255 + np.float32(2.2) * grain).clip(0, 255).astype(np.uint8)
    return pixels


def on_surface(solids: Solids, points: Float, index: NDArray[np.int32]) -> tuple[Surface, Float]:
    """Where on their solids the points lie, and outward normals in the ego frame ``[n, 3]``."""
    x, y, z = (points - solids.centre[index]).T
    cos, sin, half = solids.cos[index], solids.sin[index], solids.half[index]
    unit = np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1) / half
    face = np.abs(unit).argmax(axis=1)
    rows = np.arange(len(unit))
    normal = np.zeros_like(unit)
    normal[rows, face] = np.sign(unit[rows, face])
    ball = solids.rounded[index]
    normal[ball] = unit[ball] / half[ball]
    normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True))
    nx, ny, nz = normal.T
    turned = np.stack([cos * nx - sin * ny, sin * nx + cos * ny, nz], axis=1)
    return Surface(unit, half, points - solids.moved[index]), turned


def _sky(light: Light, ways: Float) -> Float:
    """Horizon to zenith, clouds on a plane above, and a line of distant woods and houses."""
    horizon, zenith = (np.array(colour, np.float32) for colour in light.sky)
    flat = np.maximum(np.hypot(ways[:, 0], ways[:, 1]), 1e-6)
    x, y = ways[:, 0] / flat, ways[:, 1] / flat
    rise = (ways[:, 2] / flat).clip(0, 1)
    share = np.sqrt(rise)[:, None]
    clear = horizon * (1 - share) + zenith * share

    away = 22 / np.maximum(rise, 0.04)
    cloud = 0.6 * noise(x * away * 0.3, y * away * 0.3) + 0.4 * noise(x * away, y * away)
    white = ((cloud - 0.78 + 0.5 * light.clouds) * 3).clip(0, 1) * (rise * 5).clip(0, 0.65)
    sky = clear * (1 - white[:, None]) + np.float32(0.92) * white[:, None]

    skyline = 0.012 + 0.035 * noise(x * 90 + 300, y * 90 + 300)
    woods = 0.55 * np.array([0.30, 0.36, 0.28], np.float32) + 0.45 * horizon
    return np.where((rise < skyline)[:, None], woods, sky)


def _through_air(light: Light, colours: Float, distance: Float) -> Float:
    air = (distance / (distance + light.haze_m))[:, None]
    seen: Float = colours * (1 - air) + np.array(light.sky[0], np.float32) * air
    return seen


def _directions(rays: Rays, mask: NDArray[np.bool_]) -> Float:
    return np.stack([axis[mask] for axis in rays.directions], axis=1)
