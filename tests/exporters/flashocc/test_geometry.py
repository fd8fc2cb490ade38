from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import (
    Grid,
    View,
    cell_indices,
    cells_moved,
    ego_points,
    image_augmentation,
    sensor_to_key_ego,
)
from exporters.flashocc.rig import Rig
from tests.exporters.flashocc.rigs import SMALL_GRID, SMALL_VIEW, nuscenes_rig, rigs, rotation

M1_VIEW = View(depth=(1.0, 45.0, 0.5))
SAMPLES = ("ca9a282c9e77460f8360f564131a8af5", "fd8420396768425eabec9bdddf7e64b6")


def points_in_float64(rig: Rig, view: View) -> NDArray[np.float64]:
    """Frustum points by projecting backwards with 4x4 matrices, one pixel at a time's formula."""
    height, width = view.image_size
    rows, columns = view.feature_size
    to_key = np.linalg.inv(rig.cameras[0].ego2global)
    out = np.empty((len(rig), view.depth_bins, rows, columns, 3))
    for n, camera in enumerate(rig.cameras):
        scale, left, top = image_augmentation(camera.width, camera.height, view)
        for i, v in enumerate(np.linspace(0, height - 1, rows)):
            for j, u in enumerate(np.linspace(0, width - 1, columns)):
                pixel = np.array([(u + left) / scale, (v + top) / scale, 1.0])
                ray = np.linalg.solve(camera.intrinsics, pixel)
                for d, z in enumerate(view.depth_values.astype(float)):
                    point = camera.sensor2ego @ np.append(ray * z, 1.0)
                    out[n, d, i, j] = (to_key @ camera.ego2global @ point)[:3]
    return out


def test_grid_and_view_of_m0_have_the_published_sizes() -> None:
    grid, view = Grid(), View()
    assert (grid.nx, grid.ny, grid.nz_out) == (200, 200, 16)
    assert view.feature_size == (16, 44)
    assert view.depth_values.tolist() == list(range(1, 45))
    assert M1_VIEW.depth_bins == 88
    assert M1_VIEW.depth_values[[0, -1]].tolist() == [1.0, 44.5]


def test_grid_and_view_survive_json() -> None:
    assert Grid.from_json(SMALL_GRID.to_json()) == SMALL_GRID
    assert View.from_json(SMALL_VIEW.to_json()) == SMALL_VIEW


def test_impossible_grids_and_views_are_refused() -> None:
    with pytest.raises(UserError, match=r"grid x \[0, 1, 0\.3\].*whole number of steps"):
        Grid(x=(0, 1, 0.3))
    with pytest.raises(UserError, match=r"2 slabs, expected 1.*collapses height"):
        Grid(z_pool=(-1.0, 5.4, 3.2))
    with pytest.raises(UserError, match=r"\[250, 704\] is not a multiple of the stride 16"):
        View(image_size=(250, 704))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1600, 900), (0.44, 0, 140)),
        ((1280, 960), (0.55, 0, 272)),
        ((704, 396), (1.0, 0, 140)),
        ((1600, 500), (0.44, 0, -36)),
    ],
)
def test_resize_to_width_and_keep_the_lowest_rows(
    size: tuple[int, int], expected: tuple[float, int, int]
) -> None:
    assert image_augmentation(*size, View()) == expected


def test_frustum_corners_are_the_image_corners() -> None:
    """End points included: pixel 0 and 703, row 0 and 255 of the crop, not stride centres."""
    rig, view = nuscenes_like_rig(), View()
    points = ego_points(rig, view)
    camera, pose = rig.cameras[1], sensor_to_key_ego(rig)[1].astype(float)
    for row, v in ((0, 0), (-1, 255)):
        for column, u in ((0, 0), (-1, 703)):
            in_camera = np.linalg.inv(pose) @ np.append(points[1, 30, row, column], 1.0)
            pixel = camera.intrinsics @ in_camera[:3]
            pixel = pixel[:2] / pixel[2] * 0.44 - (0, 140)
            np.testing.assert_allclose(pixel, (u, v), atol=1e-2)  # float32 at 31 m


def test_points_agree_with_a_float64_computation() -> None:
    rig = nuscenes_like_rig()
    view = View(image_size=(32, 64), depth=(1.0, 45.0, 11.0))
    ours, exact = ego_points(rig, view), points_in_float64(rig, view)
    np.testing.assert_allclose(ours, exact, atol=2e-4)  # 60 m times a few float32 roundings


def test_key_ego_is_the_first_camera_at_its_own_time() -> None:
    rig = nuscenes_like_rig()
    moved = np.eye(4)
    moved[:3, 3] = 3.0, 0.0, 0.0
    cameras = list(rig.cameras)
    cameras[1] = dataclasses.replace(cameras[1], ego2global=moved)
    poses = sensor_to_key_ego(Rig(tuple(cameras)))
    np.testing.assert_allclose(poses[0], rig.cameras[0].sensor2ego, atol=1e-6)
    np.testing.assert_allclose(
        poses[1, :3, 3], rig.cameras[1].sensor2ego[:3, 3] + (3, 0, 0), atol=1e-6
    )


@given(rigs())
@settings(max_examples=25)
def test_a_common_motion_of_the_vehicle_changes_nothing(rig: Rig) -> None:
    world = np.eye(4)
    world[:3, :3] = rotation(2, 40)
    world[:3, 3] = 20.0, -30.0, 1.0
    moved = Rig(tuple(dataclasses.replace(c, ego2global=world @ c.ego2global) for c in rig.cameras))
    ours, theirs = ego_points(rig, SMALL_VIEW), ego_points(moved, SMALL_VIEW)
    np.testing.assert_allclose(ours, theirs, atol=5e-3)  # float32 poses a kilometre from the origin


@given(rigs())
@settings(max_examples=25)
def test_cells_are_truncated_points(rig: Rig) -> None:
    points = ego_points(rig, SMALL_VIEW)
    cells = cell_indices(rig, SMALL_VIEW, SMALL_GRID)
    low, step = np.array([[-40, -40, -1], [2, 2, 6.4]], np.float32)
    kept = cells >= 0
    x, y, z = np.moveaxis((points - low) / step, -1, 0)
    assert np.array_equal(kept, (abs(z) < 1) & (x > -1) & (x < 40) & (y > -1) & (y < 40))
    assert np.array_equal(cells[kept] % 40, x[kept].astype(int))
    assert np.array_equal(cells[kept] // 40, y[kept].astype(int))


def test_truncation_keeps_points_down_to_minus_7_4_metres() -> None:
    rig, view, grid = nuscenes_like_rig(), View(), Grid()
    kept = cell_indices(rig, view, grid) >= 0
    heights = ego_points(rig, view)[kept][:, 2]
    assert -7.4 < heights.min() < -7.0
    assert 5.0 < heights.max() < 5.4
    below = np.count_nonzero(heights < -1) / kept.sum()
    assert 0.25 < below < 0.4  # floor instead of truncation would lose a third of the points


def test_bev_map_has_rows_y_and_columns_x() -> None:
    rig, view, grid = nuscenes_like_rig(), View(), Grid()
    cells = cell_indices(rig, view, grid)
    front, back, front_left = (rig.names.index(f"CAM_{n}") for n in ("FRONT", "BACK", "FRONT_LEFT"))
    for metres in (5, 20, 30):
        ahead = cells[front, metres - 1, :, 22]
        rows, columns = np.divmod(ahead[ahead >= 0], 200)
        assert np.allclose(rows, 100, atol=1)
        assert np.allclose(columns, 100 + (metres + 1.7) / 0.4, atol=1.5)
    behind = cells[back, 19, :, 22]
    assert (behind[behind >= 0] % 200 < 100).all()
    left = cells[front_left, 19, :, 22]
    assert (left[left >= 0] // 200 > 100).all()


@pytest.mark.data
@pytest.mark.parametrize("token", SAMPLES)
@pytest.mark.parametrize(
    ("view", "points", "used"), [(View(), 152_107, 11_932), (M1_VIEW, 301_989, 21_988)]
)
def test_real_rigs_keep_the_points_that_the_literature_counts(
    edgeport_data: Path, token: str, view: View, points: int, used: int
) -> None:
    """Counted once for sample fd84; the other, of the same car, may differ by half a percent."""
    cells = cell_indices(nuscenes_rig(edgeport_data / "nuscenes" / token), view, Grid())
    kept = cells[cells >= 0]
    tolerance = 0 if token == SAMPLES[1] else 0.005
    assert len(kept) == pytest.approx(points, rel=tolerance)
    assert len(np.unique(kept)) == pytest.approx(used, rel=tolerance)


@pytest.mark.data
@pytest.mark.oracle
@pytest.mark.parametrize("view", [View(), M1_VIEW], ids=["m0", "m1"])
def test_cells_agree_with_upstreams_order_of_operations_in_torch(
    edgeport_data: Path, view: View
) -> None:
    rig = nuscenes_rig(edgeport_data / "nuscenes" / SAMPLES[1])

    def stack(name: str) -> torch.Tensor:
        return torch.tensor(np.stack([getattr(c, name) for c in rig.cameras]), dtype=torch.float32)

    ego, sensor, intrinsics = (stack(n) for n in ("ego2global", "sensor2ego", "intrinsics"))
    key = (torch.inverse(ego[0].double()) @ ego.double() @ sensor.double()).float()
    v, u = torch.linspace(0, 255, 16), torch.linspace(0, 703, 44)
    z = torch.tensor(view.depth_values)
    frustum = torch.stack(torch.meshgrid(z, v, u, indexing="ij")[::-1], -1)
    undo = torch.inverse(torch.diag(torch.tensor([0.44, 0.44, 1.0])))
    image = (undo @ (frustum - torch.tensor([0.0, -140.0, 0.0])).unsqueeze(-1)).squeeze(-1)
    scaled = torch.cat([image[..., :2] * image[..., 2:], image[..., 2:]], -1)
    combined = key[:, :3, :3] @ torch.inverse(intrinsics)
    points = (combined[:, None, None, None] @ scaled.unsqueeze(-1)).squeeze(-1)
    points = points + key[:, None, None, None, :3, 3]
    cell = ((points - torch.tensor([-40.0, -40, -1])) / torch.tensor([0.4, 0.4, 6.4])).long()
    limits = torch.tensor([200, 200, 1])
    kept = ((cell >= 0) & (cell < limits)).all(-1)
    expected = torch.where(kept, cell[..., 1] * 200 + cell[..., 0], -1).numpy()

    ours = cell_indices(rig, view, Grid())
    # Points within a float32 rounding of a border may fall on either side of it.
    assert np.count_nonzero(ours != expected) <= 1e-4 * ours.size


def test_share_of_moved_points() -> None:
    one = np.array([[[[0, 1, 2, -1]]]], np.int32)
    two = np.array([[[[0, 5, -1, -1]]]], np.int32)
    assert cells_moved(one, one) == 0.0
    assert cells_moved(one, two) == pytest.approx(2 / 3)
    assert cells_moved(np.full_like(one, -1), np.full_like(one, -1)) == 0.0
