"""Frames of the generated world, for the cameras of the model that takes them.

Images are rendered at the width that the network sees, so nothing is resized, with the model's own
rig where one is baked in. Labels are given where the model's classes are those of Occ3D.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.frames import FrameSamples
from calibration.samples.lazy import LazySamples
from calibration.samples.viewpoints import RAY_ORIGINS
from calibration.samples.world.layout import Scene, make_scene
from calibration.samples.world.render import Hits, Rays, cast
from calibration.samples.world.shade import Painter, develop
from calibration.samples.world.solids import Label
from calibration.samples.world.voxelize import Truth, Visibility, fill_voxels
from exporters.errors import UserError
from exporters.flashocc.default_rig import default_rig
from exporters.flashocc.geometry import Grid, View, sensor_to_key_ego
from exporters.flashocc.rig import Camera, CameraFrame, Rig
from exporters.modelfile import ModelSpec

WORLD_VERSION = 1
"""Raised whenever the same seed gives another image or label."""

LIDAR_PLACE_M = (0.94, 0.0, 1.84)
"""In the vehicle's frame, as on nuScenes' cars: where rays of RayIoU start in single frames."""


@dataclass(frozen=True)
class Asked:
    """What ``synthetic:COUNT[:SEED]`` or ``synthetic:DRIVESxFRAMES[:SEED]`` asks for.

    Attributes:
        drives: number of drives of ``count`` key frames each; 0 for ``count`` single frames.
    """

    count: int
    seed: int
    drives: int = 0


def parse_synthetic(source: str) -> Asked:
    """What a source asks for.

    Raises:
        UserError: it is written otherwise, or asks for nothing.
    """
    found = re.fullmatch(r"synthetic:(?:(\d+)x)?(\d+)(?::(\d+))?", source)
    if found is None or 0 in (int(found[1] or 1), int(found[2])):
        raise UserError(
            f"{source!r} names no synthetic samples",
            fix="Write synthetic:COUNT or synthetic:COUNT:SEED for single frames, "
            "synthetic:DRIVESxFRAMES or synthetic:DRIVESxFRAMES:SEED for drives",
        )
    return Asked(int(found[2]), int(found[3] or 0), int(found[1] or 0))


def open_asked(
    asked: Asked, spec: ModelSpec | None, *, camera_size: bool = False
) -> FrameSamples | LazySamples:
    """Single frames or the key frames of drives, for the inputs of a model."""
    from calibration.samples.drive_samples import open_drives

    if asked.drives:
        return open_drives(asked.drives, asked.count, asked.seed, spec, camera_size=camera_size)
    return open_synthetic(asked.count, asked.seed, spec, camera_size=camera_size)


def open_synthetic(
    count: int, seed: int, spec: ModelSpec | None, *, camera_size: bool = False
) -> FrameSamples:
    """``count`` frames of the world ``seed`` for the cameras and classes of a model.

    Args:
        camera_size: render at the size of the cameras, not at the width that the network sees, as
            is always done for a model that resizes pictures itself.
    """
    names = [f"synthetic-{seed}-{index:04d}" for index in range(count)]

    @lru_cache(maxsize=1)
    def stage() -> Stage:
        assert spec is not None  # FrameSamples refuses to exist without
        known = set(spec.classes) >= {label.name for label in Label}
        grid = Grid.from_json(spec.geometry["grid"]) if known else None
        return Stage(stage_rig(spec, camera_size=camera_size), grid, spec.classes)

    def identity(index: int) -> dict[str, int]:
        world = {"world": WORLD_VERSION, "seed": seed, "index": index}
        return {**world, "camera_size": 1} if camera_size else world

    return FrameSamples(names, lambda index: stage().frame(seed, index), identity, spec)


@dataclass(frozen=True)
class Moment:
    """One frame and the truth behind it.

    Attributes:
        images: per camera, uint8 RGB.
        hits: what each pixel of each camera sees.
        labels: ``semantics``, ``mask_camera`` and ``instances``, uint8 ``[nx, ny, nz]``;
            ``ray_origins``.
    """

    scene: Scene
    images: Mapping[str, NDArray[np.uint8]]
    hits: tuple[Hits, ...]
    labels: Mapping[str, Array]


class Stage:
    """A rig and a grid in the world: what stays the same from frame to frame.

    Args:
        rig: its images are rendered at its own size.
        grid: of the labels; None for frames without labels.
        classes: the model's class names, to number the labels by.
    """

    def __init__(self, rig: Rig, grid: Grid | None = None, classes: Sequence[str] = ()) -> None:
        self.rig = rig
        self.grid = grid
        poses = sensor_to_key_ego(rig).astype(np.float64)
        self._rays = [Rays.of(c, p) for c, p in zip(rig.cameras, poses, strict=True)]
        self._visibility = Visibility(self._rays, grid) if grid else None
        self._classes = tuple(classes)

    def frame(self, seed: int, index: int) -> CameraFrame:
        """Frame ``index`` of the world ``seed``: images, and labels where there is a grid."""
        moment = self.moment(seed, index)
        return CameraFrame(f"synthetic-{seed}-{index:04d}", self.rig, moment.images, moment.labels)

    def moment(self, seed: int, index: int) -> Moment:
        """The same with all that is known about it."""
        scene = make_scene(seed, index)
        painter = Painter.of(scene)
        images, hits = {}, []
        for number, (camera, rays) in enumerate(zip(self.rig.cameras, self._rays, strict=True)):
            hit = cast(rays, scene.solids)
            noise = np.random.default_rng([seed, index, number])
            images[camera.name] = develop(painter.paint(rays, hit), noise)
            hits.append(hit)
        labels = self._labels(scene, fill_voxels(scene, self.grid), hits) if self.grid else {}
        return Moment(scene, images, tuple(hits), labels)

    def _labels(self, scene: Scene, truth: Truth, hits: Sequence[Hits]) -> dict[str, Array]:
        assert self._visibility is not None
        labels = {
            "semantics": truth.semantics,
            "mask_camera": self._visibility.mask(hits, truth.semantics),
            "instances": truth.instances(scene.actors),
            RAY_ORIGINS: np.array([LIDAR_PLACE_M]),
        }
        return numbered(labels, self._classes)


def numbered(labels: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Array]:
    """Labels with the class numbers of a model; none where it has other classes."""
    if not set(classes) >= {label.name for label in Label}:
        return {}
    numbers = np.array([classes.index(label.name) for label in Label], np.uint8)
    return {**labels, "semantics": numbers[labels["semantics"]]}


def stage_rig(spec: ModelSpec, *, camera_size: bool = False) -> Rig:
    """The model's rig with cameras as wide as the network's images, or at their own size.

    Raises:
        UserError: the model's cameras are unknown.
    """
    images = next((item for item in spec.inputs if item.semantics == "camera-images"), None)
    names = images.details.get("cameras") if images else None
    if images is None or not names:
        raise UserError(f"{spec.variant} does not say which cameras it takes")
    baked = spec.geometry.get("rig")
    rig = Rig.from_json(baked, source="the model's rig") if baked else default_rig(len(names))
    if not set(names) <= set(rig.names):
        cameras = zip(rig.cameras, names, strict=True)
        rig = Rig(tuple(dataclasses.replace(camera, name=name) for camera, name in cameras))
    rig = rig.ordered(names)
    own = images.details.get("camera_size")  # the model resizes pictures of this size itself
    if own is None and camera_size:
        return rig
    width = own[1] if own else View.from_json(spec.geometry["view"]).image_size[1]
    return Rig(tuple(scaled(camera, width) for camera in rig.cameras))


def scaled(camera: Camera, width: int) -> Camera:
    """The same camera with images of another width."""
    height = camera.height * width // camera.width
    scale = np.diag([width / camera.width, width / camera.width, 1.0])
    intrinsics = scale @ camera.intrinsics
    return dataclasses.replace(camera, width=width, height=height, intrinsics=intrinsics)
