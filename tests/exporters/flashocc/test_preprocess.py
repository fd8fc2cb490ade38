from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.errors import UserError
from exporters.flashocc.config import NUSCENES_CAMERAS
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import Grid, View, cell_indices
from exporters.flashocc.pooling import column_tables, room_for, table_names
from exporters.flashocc.preprocess import (
    describe_geometry,
    normalise,
    prepare,
    resize_and_crop,
    rig_mismatch,
)
from exporters.flashocc.rig import CameraFrame, Rig
from exporters.modelfile import InputSpec, ModelSpec, WeightsSource
from tests.exporters.flashocc.rigs import nuscenes_rig, turned


def make_spec(dtype: str = "uint8", **geometry: Any) -> ModelSpec:
    shape = (6, 256, 704, 3) if dtype == "uint8" else (6, 3, 256, 704)
    details = {"cameras": list(NUSCENES_CAMERAS), "image_size": [256, 704]}
    return ModelSpec(
        variant="flashocc-m0",
        family="flashocc",
        task="occupancy",
        inputs=(InputSpec("images", dtype, shape, "camera-images", details),),
        outputs=(),
        weights=WeightsSource("random", seed=0),
        geometry=describe_geometry(View(), Grid(), **geometry),
    )


def make_frame(seed: int = 0) -> CameraFrame:
    rng = np.random.default_rng(seed)
    rig = nuscenes_like_rig()
    images = {
        c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in rig.cameras
    }
    return CameraFrame("frame", rig, images, {})


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel, a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resize_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Antialiased bicubic as ``[target, source]``: the kernel is widened by source/target."""
    ratio = source / target
    centre = (np.arange(target) + 0.5) * ratio
    weight = cubic((np.arange(source) + 0.5 - centre[:, None]) / ratio)
    normalised: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return normalised


def test_resize_is_the_antialiased_cubic_filter_and_keeps_the_lowest_rows() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 196, (45, 80, 3), dtype=np.uint8)  # overshoot stays in 0..255
    image = coarse.repeat(20, axis=0).repeat(20, axis=1)
    ours = resize_and_crop(image, View()).astype(float)
    rows, columns = resize_matrix(900, 396)[140:], resize_matrix(1600, 704)
    across = np.einsum("hwc,kw->hkc", image.astype(float), columns, optimize=True)
    exact = np.einsum("rh,hkc->rkc", rows, across, optimize=True).clip(0, 255)
    assert np.abs(ours - exact).max() <= 1.1  # 8-bit rounding after each of the two passes
    assert np.abs(ours - exact).mean() < 0.5


@pytest.mark.data
@pytest.mark.oracle
def test_real_images_are_resized_as_pillow_does(edgeport_data: Path) -> None:
    folder = edgeport_data / "nuscenes" / "fd8420396768425eabec9bdddf7e64b6"
    with Image.open(folder / "CAM_FRONT.jpg") as image:
        expected = image.resize((704, 396)).crop((0, 140, 704, 396))
        assert np.array_equal(resize_and_crop(np.asarray(image), View()), np.asarray(expected))


@pytest.mark.parametrize("size", [(396, 704), (960, 1280), (1080, 1920), (256, 704)])
def test_any_source_size_fits(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    assert resize_and_crop(image, View()).shape == (256, 704, 3)
    assert (resize_and_crop(image, View())[-200:] == 77).all()


def test_a_flat_image_is_black_above() -> None:
    image = np.full((500, 1600, 3), 77, np.uint8)
    ours = resize_and_crop(image, View())
    assert (ours[:36] == 0).all()
    assert (ours[36:] == 77).all()


def test_planes_are_blue_green_red_with_statistics_of_red_green_blue() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[...] = (10, 20, 30)  # R, G, B
    planes = normalise(images)
    assert planes.shape == (1, 3, 2, 2)
    expected = [(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375]
    np.testing.assert_allclose(planes[0, :, 0, 0], expected, rtol=1e-6)


def test_images_are_stacked_in_the_models_order_whatever_the_frames_order() -> None:
    frame = make_frame()
    shuffled = dataclasses.replace(frame, rig=frame.rig.ordered(sorted(frame.rig.names)))
    spec = make_spec(rig=frame.rig)
    images = prepare(shuffled, spec)["images"]
    assert images.dtype == np.uint8
    assert images.shape == (6, 256, 704, 3)
    for index, name in enumerate(NUSCENES_CAMERAS):
        assert np.array_equal(images[index], resize_and_crop(frame.images[name], View()))
    planes = prepare(frame, make_spec("float32", rig=frame.rig))["images"]
    assert np.array_equal(planes, normalise(images))


def test_models_with_rig_inputs_get_tables_of_their_capacity() -> None:
    frame = make_frame()
    capacity = room_for(frame.rig, View(), Grid())
    inputs = prepare(frame, make_spec(capacity=capacity))
    assert tuple(inputs) == ("images", *table_names(capacity))
    cells = cell_indices(frame.rig, View(), Grid())
    for name, table in column_tables(cells, Grid(), capacity).named().items():
        assert np.array_equal(inputs[name], table)


def test_a_rolled_camera_beyond_the_capacity_is_named() -> None:
    frame = make_frame()
    spec = make_spec(capacity=room_for(frame.rig, View(), Grid()))
    cameras = [turned(c, roll=40) if c.name == "CAM_BACK" else c for c in frame.rig.cameras]
    with pytest.raises(UserError, match=r"camera CAM_BACK needs \d+ groups"):
        prepare(dataclasses.replace(frame, rig=Rig(tuple(cameras))), spec)


def test_missing_cameras_and_images_are_named() -> None:
    frame = make_frame()
    spec = make_spec(rig=frame.rig)
    short = dataclasses.replace(frame, rig=Rig(frame.rig.cameras[:5]))
    with pytest.raises(UserError, match="the rig has no camera 'CAM_BACK_RIGHT'"):
        prepare(short, spec)
    images = {name: image for name, image in frame.images.items() if name != "CAM_FRONT"}
    with pytest.raises(UserError, match=r"frame has no image of camera CAM_FRONT.*CAM_BACK"):
        prepare(dataclasses.replace(frame, images=images), spec)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((450, 800, 3), np.uint8),
        np.zeros((900, 1600), np.uint8),
        np.zeros((900, 1600, 3), np.float32),
    ],
)
def test_an_image_of_another_size_than_its_camera_is_refused(image: NDArray[Any]) -> None:
    frame = make_frame()
    frame = dataclasses.replace(frame, images={**frame.images, "CAM_BACK": image})
    with pytest.raises(
        UserError, match=r"camera CAM_BACK is .*its rig says uint8 \[900, 1600, 3\].*Intrinsics"
    ):
        prepare(frame, make_spec(rig=frame.rig))


def test_mismatch_of_rigs() -> None:
    rig = nuscenes_like_rig()
    spec = make_spec(rig=rig)
    assert rig_mismatch(rig, spec) == 0.0
    assert rig_mismatch(rig.ordered(sorted(rig.names)), spec) == 0.0
    other = Rig(tuple(turned(c, yaw=2) for c in rig.cameras))
    assert 0.3 < rig_mismatch(other, spec) < 1.0
    assert rig_mismatch(other, make_spec(capacity=room_for(rig, View(), Grid()))) == 0.0


@pytest.mark.data
def test_motion_alone_moves_points(edgeport_data: Path) -> None:
    """One sample stands (0.1 m/s), the other drives (9.2 m/s); 43 ms between its shutters."""
    mismatch = []
    for folder in sorted((edgeport_data / "nuscenes").iterdir()):
        rig = nuscenes_rig(folder)
        still = Rig(tuple(dataclasses.replace(c, ego2global=np.eye(4)) for c in rig.cameras))
        mismatch.append(rig_mismatch(rig, make_spec(rig=still)))
    assert mismatch == pytest.approx([0.442, 0.0144], rel=0.01)
