"""A camera rig: where each camera sits on the vehicle and how it projects.

This is the one description of geometry that a user writes (``rig.json``, schema in
``docs/your-own-rig.md``), that dataset readers produce and that ``geometry`` turns into tables.

Axes: ego x forward, y left, z up (metres); camera x right, y down, z forward. A 4x4 matrix
``a2b`` maps points of frame a into frame b.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError, did_you_mean
from exporters.files import sha256_bytes
from exporters.modelfile import canonical_json

Matrix = NDArray[np.float64]

RIG_SCHEMA = "edgeport.rig/1"
_CAMERA_KEYS = {"name", "width", "height", "intrinsics", "sensor2ego", "ego2global"}


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        name: ``CAM_FRONT``.
        width, height: pixels of the *original* image, which ``intrinsics`` belong to.
        intrinsics: 3x3, pixels.
        sensor2ego: 4x4, camera to vehicle, metres.
        ego2global: 4x4, vehicle to world at this camera's own timestamp; identity if standing.
    """

    name: str
    width: int
    height: int
    intrinsics: Matrix
    sensor2ego: Matrix
    ego2global: Matrix

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "intrinsics": self.intrinsics.tolist(),
            "sensor2ego": self.sensor2ego.tolist(),
            "ego2global": self.ego2global.tolist(),
        }


@dataclass(frozen=True)
class Rig:
    """Cameras in the order in which the network takes their images; the first is the key camera."""

    cameras: tuple[Camera, ...]

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def sha256(self) -> str:
        return sha256_bytes(canonical_json(self.to_json()).encode())

    def ordered(self, names: Sequence[str]) -> Rig:
        """The same rig with its cameras in the order ``names``.

        Raises:
            UserError: a camera of ``names`` is missing here.
        """
        by_name = {camera.name: camera for camera in self.cameras}
        for name in names:
            if name not in by_name:
                raise UserError(f"the rig has no camera {name!r}", fix=did_you_mean(name, by_name))
        return Rig(tuple(by_name[name] for name in names))

    def to_json(self) -> dict[str, Any]:
        return {"schema": RIG_SCHEMA, "cameras": [camera.to_json() for camera in self.cameras]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "rig") -> Rig:
        """Read and check a rig.

        Raises:
            UserError: unknown or missing key, wrong shape, not finite, or not a rigid transform.
        """
        if data.get("schema") != RIG_SCHEMA:
            raise UserError(
                f"{source}: schema is {data.get('schema')!r}, expected {RIG_SCHEMA!r}",
                fix="See docs/your-own-rig.md",
            )
        for key in data:
            if key not in {"schema", "cameras"}:
                raise UserError(
                    f"{source}: unknown key {key!r}", fix=did_you_mean(key, ["cameras"])
                )
        cameras = data.get("cameras") or []
        if not cameras:
            raise UserError(f"{source}: no cameras", fix="See docs/your-own-rig.md")
        return cls(
            tuple(_camera(item, f"{source}: cameras[{i}]") for i, item in enumerate(cameras))
        )

    @classmethod
    def load(cls, path: Path) -> Rig:
        try:
            data = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"cannot read rig {path}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(
                f"{path} is not JSON: {error}", fix="See docs/your-own-rig.md"
            ) from error
        return cls.from_json(data, source=str(path))


def _camera(item: Mapping[str, Any], where: str) -> Camera:
    for key in item:
        if key not in _CAMERA_KEYS:
            raise UserError(f"{where}: unknown key {key!r}", fix=did_you_mean(key, _CAMERA_KEYS))
    for key in _CAMERA_KEYS - {"ego2global"}:
        if key not in item:
            raise UserError(f"{where}: {key!r} is missing", fix="See docs/your-own-rig.md")
    return Camera(
        name=str(item["name"]),
        width=int(item["width"]),
        height=int(item["height"]),
        intrinsics=_matrix(item["intrinsics"], 3, f"{where}.intrinsics"),
        sensor2ego=_rigid(item["sensor2ego"], f"{where}.sensor2ego"),
        ego2global=_rigid(item.get("ego2global", np.eye(4).tolist()), f"{where}.ego2global"),
    )


def _matrix(value: Any, size: int, where: str) -> Matrix:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is not a matrix of numbers") from error
    if matrix.shape != (size, size):
        raise UserError(f"{where} has shape {list(matrix.shape)}, expected [{size}, {size}]")
    if not np.isfinite(matrix).all():
        raise UserError(f"{where} holds NaN or infinite values")
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise UserError(f"{where} is not invertible")
    return matrix


def _rigid(value: Any, where: str) -> Matrix:
    matrix = _matrix(value, 4, where)
    rotation = matrix[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    if not orthonormal or np.linalg.det(rotation) < 0 or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise UserError(
            f"{where} is not a rotation and a translation",
            fix="Check row order (4x4, row-major), quaternion order (w, x, y, z), units (metres)",
        )
    return matrix


@dataclass(frozen=True)
class CameraFrame:
    """One moment of a rig as a dataset reader gives it.

    Attributes:
        name: what a report calls it, a sample token.
        rig: geometry at this moment.
        images: per camera name, uint8 ``[height, width, 3]`` in RGB order, original size.
        labels: ground truth where the source has it, for example ``semantics`` and
            ``mask_camera``, uint8 ``[200, 200, 16]``.
        past: the rig at earlier key frames of the same scene, the latest first: what a network
            with a memory is told about where it has been. Empty where a scene starts.
    """

    name: str
    rig: Rig
    images: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[Any]]
    past: tuple[Rig, ...] = ()
