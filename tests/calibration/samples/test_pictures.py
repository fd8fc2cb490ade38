"""Pictures and points as what an input wants; Pillow and plain loops as oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calibration.samples import open_samples
from calibration.samples.description import bare_spec
from calibration.samples.doctor.images import image_form
from calibration.samples.image_files import open_images, read_image
from calibration.samples.pictures import picture_input
from calibration.samples.points import PointCloud, filled, rows_of
from exporters.errors import UserError
from exporters.modelfile import InputSpec
from tests.calibration.samples.trees import photograph, photographs


def item(dtype: str = "uint8", size: tuple[int, int] = (32, 48), **details: Any) -> InputSpec:
    values = {"layout": "HWC", "color_order": "RGB", "resize": "stretch", "size": list(size)}
    return InputSpec("x", dtype, (*size, 3), "image", {**values, **details})


def picture(width: int, height: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "box", "lanczos"])
def test_stretching_is_pillows(name: str) -> None:
    pixels = picture(100, 70)
    expected = Image.fromarray(pixels).resize((48, 32), Image.Resampling[name.upper()])
    assert np.array_equal(picture_input(pixels, item(filter=name)), np.asarray(expected))


def test_a_letterboxed_picture_is_whole_and_the_rest_is_filled() -> None:
    pixels = picture(100, 50)
    found = picture_input(pixels, item(resize="letterbox", fill=7))
    small = np.asarray(Image.fromarray(pixels).resize((48, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(found[4:28], small)
    assert (found[:4] == 7).all()
    assert (found[28:] == 7).all()
    found = picture_input(pixels, item(resize="letterbox", align="top-left"))
    assert np.array_equal(found[:24], small)
    assert (found[24:] == 114).all()


def test_a_cropped_picture_covers_the_input() -> None:
    pixels = picture(100, 50)
    large = np.asarray(Image.fromarray(pixels).resize((64, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(picture_input(pixels, item(resize="crop")), large[:, 8:56])
    larger = np.asarray(Image.fromarray(pixels).resize((80, 40), Image.Resampling.BILINEAR))
    assert np.array_equal(picture_input(pixels, item(resize="crop:40")), larger[4:36, 16:64])


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["stretch", "letterbox", "crop", "crop:70"]),
    st.sampled_from(["NCHW", "NHWC", "CHW", "HWC", "NHW", "HW"]),
    st.sampled_from(["RGB", "BGR"]),
)
def test_every_picture_fits(width: int, height: int, resize: str, layout: str, color: str) -> None:
    order = color if "C" in layout else "gray"
    wanted = item(resize=resize, layout=layout, color_order=order)
    lengths = {"N": 1, "C": 3, "H": 32, "W": 48}
    found = picture_input(picture(width, height), wanted)
    assert found.shape == tuple(lengths[letter] for letter in layout)
    assert found.flags.c_contiguous


def test_values_follow_the_formula() -> None:
    pixels = picture(48, 32)
    details = {"layout": "NCHW", "color_order": "BGR", "scale": 1 / 255, "mean": [0.1, 0.2, 0.3]}
    found = picture_input(pixels, item("float32", std=[0.5, 0.6, 0.7], **details))
    for channel, rgb in enumerate((2, 1, 0)):
        expected = (pixels[..., rgb] / 255 - details["mean"][channel]) / (0.5, 0.6, 0.7)[channel]
        assert np.allclose(found[0, channel], expected, atol=1e-7)  # rounding to float32


def test_the_doctor_knows_what_a_described_image_holds() -> None:
    shaped = InputSpec(
        "x",
        "float32",
        (1, 3, 32, 48),
        "image",
        {
            **item().details,
            "layout": "NCHW",
            "scale": 1 / 255,
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
        },
    )
    form = image_form(shaped, described=True)
    assert form is not None
    assert form.low is not None
    assert form.high is not None
    assert np.allclose(form.low, -2)
    assert np.allclose(form.high, 2)
    scaled = InputSpec(
        "x", "float32", (1, 3, 32, 48), "image", {"layout": "NCHW", "scale": 1 / 255}
    )
    form = image_form(scaled, described=True)
    assert form is not None
    assert form.span == 1.0


# --------------------------------------------------------------------------------- image folders


def test_a_folder_of_images(tmp_path: Path) -> None:
    photographs(tmp_path / "a", 2)
    photograph(tmp_path / "b" / "000.jpg", 5)
    photograph(tmp_path / ".cache" / "000.jpg", 5)
    (tmp_path / "notes.txt").write_text("no image")
    spec = bare_spec([item()])
    samples = open_samples(tmp_path, spec)
    assert samples.names == ("a/000.png", "a/001.png", "b/000.jpg") == samples.groups
    assert np.array_equal(
        samples.sample(1)["x"],
        np.asarray(Image.open(tmp_path / "a" / "001.png").resize((48, 32), 2)),
    )
    sequences = open_images(tmp_path, spec, "sequences")
    assert sequences.groups == ("a", "a", "b")
    assert [int(s["label.class"]) for s in open_images(tmp_path, spec, "classes")] == [0, 0, 1]
    assert samples.sha256 == open_samples(tmp_path, spec).sha256
    assert samples.sha256 != open_samples(tmp_path, bare_spec([item(resize="crop")])).sha256


def test_images_are_upright_and_of_eight_bits(tmp_path: Path) -> None:
    pixels = picture(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), pixels)
    assert np.array_equal(read_image(tmp_path / "turned.png", upright=True), np.rot90(pixels, -1))
    deep = np.arange(200, dtype=np.uint16).reshape(10, 20) * 300
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png has more than eight bits.*as your training"):
        read_image(tmp_path / "deep.png")
    (tmp_path / "no.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"no\.png is truncated or no image"):
        read_image(tmp_path / "no.png")


def test_a_model_that_takes_no_image(tmp_path: Path) -> None:
    photographs(tmp_path, 1)
    with pytest.raises(UserError, match="no input of the model is known to take single images: y"):
        open_samples(tmp_path, bare_spec([InputSpec("y", "float32", (1, 8))]))
    with pytest.raises(UserError, match="nobody says what the model's inputs want"):
        open_samples(tmp_path)


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", np.full((2, 3), index, np.float32) + np.eye(2, 3))
    spec = bare_spec([InputSpec("y", "float64", (2, 3))])
    samples = open_samples(tmp_path, spec)
    assert samples.names == ("0", "1", "2")
    assert samples.sample(2)["y"][0, 0] == 3
    two = bare_spec([InputSpec("y", "float32", (2, 3)), InputSpec("z", "float32", (2, 3))])
    with pytest.raises(UserError, match=r"holds \.npy files, but the model takes y, z"):
        open_samples(tmp_path, two)
    (tmp_path / "1.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"1\.npy is truncated or no \.npy file"):
        samples.sample(1)


# ---------------------------------------------------------------------------------------- points

CLOUD = PointCloud(
    np.float32([[1, 2, 0, 51], [3, 4, 1, 255], [-5, 6, 2, 0], [7, 8, 3, 102]]), intensity_max=255
)


def points(rows: int = 6, **details: Any) -> InputSpec:
    shape = (1, rows, len(details.get("columns", "xyzi")))
    return InputSpec("p", "float32", shape, "points", details)


def test_rows_of_a_scan() -> None:
    wanted = points(range=[0, 0, 0, 7, 9, 9], intensity_max=1.0)
    rows = rows_of(CLOUD, wanted)
    assert np.allclose(rows, [[1, 2, 0, 0.2], [3, 4, 1, 1]])  # 7 is outside: half-open
    assert CLOUD.values[0, 3] == 51, "the scan itself is untouched"
    found = filled(rows, wanted)
    assert found.shape == (1, 6, 4)
    assert (found[0, 2:] == -10_000).all()
    assert (filled(rows, points(fill=-1))[0, 2:] == -1).all()
    assert np.array_equal(rows_of(CLOUD, points(columns=["z", "x"])), CLOUD.values[:, [2, 0]])
    with pytest.raises(UserError, match="takes a column 'ring', which the points lack"):
        rows_of(CLOUD, points(columns=["x", "ring"]))


def test_more_points_than_rows() -> None:
    with pytest.raises(UserError, match="the scan has 4 points, input 'p' takes 2"):
        rows_of(CLOUD, points(2))
    assert np.array_equal(rows_of(CLOUD, points(2, surplus="thin")), CLOUD.values[[0, 2]])
