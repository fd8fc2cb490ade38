"""Rigs and reference computations that several tests share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporters.flashocc.config import NUSCENES_CAMERAS
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.rig import Camera, Rig

SMALL_VIEW = View(image_size=(64, 176), depth=(1.0, 45.0, 2.0))
SMALL_GRID = Grid(x=(-40.0, 40.0, 2.0), y=(-40.0, 40.0, 2.0))


def turned(camera: Camera, *, roll: float = 0.0, pitch: float = 0.0, yaw: float = 0.0) -> Camera:
    """``camera`` turned about its own z, x and y axes, degrees."""
    pose = camera.sensor2ego.copy()
    for axis, angle in ((2, roll), (0, pitch), (1, yaw)):
        pose[:3, :3] = pose[:3, :3] @ rotation(axis, angle)
    return dataclasses.replace(camera, sensor2ego=pose)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


@st.composite
def rigs(draw: st.DrawFn, max_tilt: float = 180.0) -> Rig:
    """Four or six cameras with random poses, focal lengths, image sizes and ego motion."""
    upright = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    metres, tilts = st.floats(-3, 3), st.floats(-max_tilt, max_tilt)
    cameras = []
    for index in range(draw(st.sampled_from([4, 6]))):
        pose, ego = np.eye(4), np.eye(4)
        pose[:3, :3] = rotation(2, draw(st.floats(-180, 180))) @ upright
        pose[:3, 3] = draw(metres), draw(metres), draw(st.floats(0.2, 3))
        ego[:3, :3] = rotation(2, draw(st.floats(-3, 3)))
        ego[:3, 3] = 1000 + draw(metres), -500 + draw(metres), 0.0
        width, height = draw(st.sampled_from([(1600, 900), (1280, 960), (1920, 1080), (640, 200)]))
        focal = width * draw(st.floats(0.4, 1.2))
        intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        camera = Camera(f"camera-{index}", width, height, intrinsics, pose, ego)
        cameras.append(turned(camera, roll=draw(tilts), pitch=draw(tilts)))
    return Rig(tuple(cameras))


def pool_reference(
    depth: NDArray[Any], context: NDArray[Any], cells: NDArray[np.int32], grid: Grid
) -> NDArray[np.float64]:
    """Pooling by definition, float64: one addition per kept frustum point."""
    bev = np.zeros((grid.cells, context.shape[1]))
    camera, bin_, row, column = np.nonzero(cells >= 0)
    products = depth[camera, bin_, row, column].astype(np.float64)[:, None] * context[
        camera, :, row, column
    ].astype(np.float64)
    np.add.at(bev, cells[camera, bin_, row, column], products)
    result: NDArray[np.float64] = bev.T.reshape(1, -1, grid.ny, grid.nx)
    return result


def random_features(
    cells: NDArray[np.int32], channels: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth probabilities ``[N, D, fH, fW]`` that sum to one, and context ``[N, C, fH, fW]``."""
    rng = np.random.default_rng(seed)
    cameras, _, rows, columns = cells.shape
    weight = np.exp(2 * rng.standard_normal(cells.shape))
    context = rng.standard_normal((cameras, channels, rows, columns))
    depth = weight / weight.sum(axis=1, keepdims=True)
    return depth.astype(np.float32), context.astype(np.float32)


def nuscenes_rig(folder: Path) -> Rig:
    """The rig of one real sample."""
    cameras = json.loads((folder / "sample.json").read_text())["cameras"]
    keys = ("intrinsics", "sensor2ego", "ego2global")
    return Rig(
        tuple(
            Camera(name, 1600, 900, *(np.array(cameras[name][key]) for key in keys))
            for name in NUSCENES_CAMERAS
        )
    )
