"""Rays against slabs: every occupied voxel asked alone, without any walk."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.samples.viewpoints import MOST_ORIGINS, ray_origins
from deploy.metrics.compiled import compiled
from deploy.metrics.rays.casting import MOST_STEPS, VoxelGrid, cast_rays, walk
from deploy.metrics.rays.directions import directions, pitches

FREE = 17
UNIT = VoxelGrid((0.0, 0.0, 0.0), 1.0)


def by_slabs(occupied: np.ndarray, origin: np.ndarray, way: np.ndarray) -> tuple[float, int]:
    """Exit length and flat index of the first occupied voxel, of the last voxel if there is none.

    Brute force in float64: lengths at which the ray enters and leaves each voxel of the grid.
    """
    shape = occupied.shape
    low = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - origin) / way, (low + 1 - origin) / way
    enters = np.minimum(first, second).max(axis=1)
    leaves = np.maximum(first, second).min(axis=1)
    crossed = (leaves > np.maximum(enters, 0)) & (leaves - enters > 1e-9)
    solid = crossed & occupied.ravel()
    if solid.any():
        index = int(np.where(solid, enters, np.inf).argmin())
    else:
        index = int(np.where(crossed, leaves, -np.inf).argmax())
    return float(leaves[index]), index


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 7)] * 3), st.floats(0, 1))
def test_rays_stop_where_brute_force_says(seed, shape, density):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < density, 3, FREE).astype(np.uint8)
    origin = rng.uniform(0, shape).astype(np.float32).astype(np.float64)
    ways = rng.normal(size=(40, 3))
    ways = (ways / np.linalg.norm(ways, axis=1, keepdims=True)).astype(np.float32)

    hits = cast_rays(labels, origin[None], free=FREE, grid=UNIT, rays=ways)

    for way, distance, voxel in zip(ways, hits.distance_m, hits.voxel, strict=True):
        # the walk's direction is between two float32 points, see the module
        end = (origin + way.astype(np.float64)).astype(np.float32)
        exact = (end - origin) / np.linalg.norm(end - origin)
        length, index = by_slabs(labels < FREE, origin, exact)
        assert voxel == index
        # float32 of a length below 13: spacing 1e-6
        assert distance == pytest.approx(length, abs=2e-6)


def test_machine_code_says_what_python_says():
    rng = np.random.default_rng(0)
    occupied = rng.random((9, 8, 5)) < 0.1
    starts = rng.uniform(-3, 10, (200, 3))  # some begin outside
    ends = starts + rng.normal(size=(200, 3))
    ends[:20, 0] = starts[:20, 0]  # some run along a plane
    assert all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(
            compiled(walk)(occupied, starts, ends, MOST_STEPS),
            walk(occupied, starts, ends, MOST_STEPS),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("origin", "way", "distance", "voxel"),
    [
        ((0.5, 0.5, 0.5), (1, 0, 0), 2.5, (2, 0, 0)),  # out of the back of the third voxel
        ((2.5, 0.5, 0.5), (1, 0, 0), 0.5, (2, 0, 0)),  # begins inside of it
        ((0.5, 1.5, 0.5), (0, 1, 0), 2.5, (0, 3, 0)),  # nothing: the last voxel of the grid
        ((-1.0, 0.5, 0.5), (1, 0, 0), 4.0, (2, 0, 0)),  # comes from outside
        ((-1.0, 0.5, 0.5), (-1, 0, 0), -1.0, (0, 0, 0)),  # never meets the grid
    ],
)
def test_distances_are_where_a_voxel_is_left(origin, way, distance, voxel):
    labels = np.full((4, 4, 2), FREE, np.uint8)
    labels[2, 0, 0] = 4
    hits = cast_rays(labels, [origin], free=FREE, grid=UNIT, rays=np.array([way], np.float32))
    assert hits.distance_m.tolist() == [distance]
    assert np.unravel_index(hits.voxel[0], labels.shape) == voxel


def test_a_tie_goes_to_z_then_to_y():
    """Along a diagonal from the middle of a voxel all boundaries come at once."""
    labels = np.full((3, 3, 3), FREE, np.uint8)
    labels[1, 1, 2] = labels[1, 2, 1] = labels[2, 1, 1] = 1
    way = np.full((1, 3), 1 / math.sqrt(3), np.float32)
    hits = cast_rays(labels, [(1.5, 1.5, 1.5)], free=FREE, grid=UNIT, rays=way)
    assert np.unravel_index(hits.voxel[0], labels.shape) == (1, 1, 2)
    labels[1, 1, 2] = FREE
    hits = cast_rays(labels, [(1.5, 1.5, 1.5)], free=FREE, grid=UNIT, rays=way)
    # from z the ray goes on to y, which is (1, 2, 2): the y neighbour is passed by
    assert np.unravel_index(hits.voxel[0], labels.shape) == (2, 2, 2)


def test_a_lidar_has_39_rings_and_14040_rays():
    assert len(pitches()) == 39
    degrees = np.rad2deg(pitches())
    # -(90 - atan k) by hand for k = 1, 2, 3 and 10
    assert degrees[[0, 1, 2, 9]] == pytest.approx([-45.0, -26.565, -18.435, -5.711], abs=1e-3)
    assert pitches()[-1] == pytest.approx(0.2190, abs=1e-4)
    assert pitches()[-2] < 0.21
    assert directions().shape == (14040, 3)
    assert directions().dtype == np.float32
    assert np.linalg.norm(directions(), axis=1) == pytest.approx(1.0, abs=1e-6)  # float32
    # the second ray is one degree to the left of the first, in the same ring
    assert directions()[0] == pytest.approx([math.sqrt(0.5), 0, -math.sqrt(0.5)], abs=1e-6)
    assert math.degrees(math.atan2(directions()[1, 1], directions()[1, 0])) == pytest.approx(1.0)


def straight_drive(frames: int, step_m: float) -> np.ndarray:
    """The vehicle turned to the left by 90 degrees and driving on, the LiDAR 1.8 m above it."""
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :2, :2] = [[0, -1], [1, 0]]
    poses[:, 1, 3] = 100 + step_m * np.arange(frames)
    poses[:, 2, 3] = 1.8
    return poses


def test_origins_are_where_the_lidar_was_in_this_frame():
    mount = np.eye(4)
    mount[:3, 3] = [1.0, 0.0, 1.8]
    origins = ray_origins(mount, straight_drive(5, 10.0), 2)
    # ten metres a frame along the vehicle's own x; the LiDAR's own place in the middle
    assert origins == pytest.approx(
        np.array([[-19, 0, 1.8], [-9, 0, 1.8], [1, 0, 1.8], [11, 0, 1.8], [21, 0, 1.8]])
    )


def test_far_origins_are_left_out_and_eight_of_many_are_taken():
    mount = np.eye(4)
    origins = ray_origins(mount, straight_drive(41, 4.0), 0)
    assert origins[:, 0].max() < 39  # ten are in reach, 0 … 36 m: every one in nine sevenths
    assert origins[:, 0] == pytest.approx([0, 4, 12, 16, 20, 24, 32, 36])
    assert len(origins) == MOST_ORIGINS
    assert ray_origins(mount, straight_drive(1, 0.0), 0).tolist() == [[0, 0, 0]]
