from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.samples import hash_samples, open_samples, write_samples
from calibration.samples.folders import read_frame
from calibration.samples.frames import FrameSamples
from exporters.errors import UserError
from exporters.flashocc.config import NANO, NUSCENES_CAMERAS
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.preprocess import resize_and_crop
from tests.calibration.sample_models import camera_spec, plain_spec

SIZE = (160, 90)


def make_folder(folder: Path, *, labels: bool = True) -> Path:
    """A sample folder with small images of a scaled rig."""
    folder.mkdir(parents=True)
    cameras: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for camera in nuscenes_like_rig().cameras:
        pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{camera.name}.jpg", quality=95)
        cameras[camera.name] = {
            "image": f"{camera.name}.jpg",
            "intrinsics": (np.diag([0.1, 0.1, 1]) @ camera.intrinsics).tolist(),
            "sensor2ego": camera.sensor2ego.tolist(),
            "ego2global": camera.ego2global.tolist(),
        }
    (folder / "sample.json").write_text(json.dumps({"cameras": cameras}))
    if labels:
        semantics = rng.integers(0, 18, (40, 40, 4)).astype(np.uint8)
        np.savez(folder / "labels.npz", semantics=semantics, mask_camera=semantics > 3)
    return folder


def test_folders_become_samples_with_labels(tmp_path: Path) -> None:
    make_folder(tmp_path / "b", labels=False)
    make_folder(tmp_path / "a")
    (tmp_path / "c").mkdir()
    samples = open_samples(tmp_path, camera_spec())
    assert samples.names == ("a", "b")
    first, second = samples
    assert set(first) == {"images", "label.semantics", "label.mask_camera"}
    assert set(second) == {"images"}
    frame = read_frame(tmp_path / "a")
    for index, name in enumerate(NUSCENES_CAMERAS):
        expected = resize_and_crop(frame.images[name], NANO.view)
        assert np.array_equal(first["images"][index], expected)
    assert open_samples(tmp_path / "a", camera_spec()).names == ("a",)


def test_the_hash_follows_files_and_model(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    samples = open_samples(tmp_path, camera_spec())
    assert samples.sha256 == open_samples(tmp_path, camera_spec()).sha256
    assert samples.sha256 != open_samples(tmp_path, camera_spec(nuscenes_like_rig())).sha256
    before = samples.sha256
    Image.new("RGB", SIZE, (1, 2, 3)).save(tmp_path / "a" / "CAM_BACK.jpg")
    assert open_samples(tmp_path, camera_spec()).sha256 != before


def test_a_covered_camera_is_found_when_it_is_its_turn(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    Image.new("RGB", SIZE, (1, 2, 3)).save(tmp_path / "a" / "CAM_BACK.jpg")
    with pytest.raises(UserError, match="sample a: the image of camera CAM_BACK has one colour"):
        list(open_samples(tmp_path, camera_spec()))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: truncate(f / "CAM_BACK.jpg"), r"CAM_BACK\.jpg is truncated or no image"),
        (lambda f: (f / "CAM_BACK.jpg").write_text("no"), r"CAM_BACK\.jpg is truncated or no"),
        (lambda f: (f / "CAM_BACK.jpg").unlink(), r"image .*CAM_BACK\.jpg is missing"),
        (lambda f: truncate(f / "labels.npz"), r"labels\.npz is truncated or no \.npz"),
        (lambda f: (f / "sample.json").write_text("{}"), r"sample\.json is no description of"),
        (
            lambda f: edit(f / "sample.json", lambda d: d["cameras"]["CAM_BACK"].pop("image")),
            r"sample\.json: camera CAM_BACK names no image",
        ),
        (
            lambda f: edit(f / "sample.json", lambda d: d["cameras"]["CAM_BACK"].pop("intrinsics")),
            r"sample\.json: cameras\[4\]: 'intrinsics' is missing",
        ),
        (
            lambda f: edit(f / "sample.json", lambda d: d["cameras"].pop("CAM_BACK")),
            r"the rig has no camera 'CAM_BACK'",
        ),
    ],
)
def test_damaged_folders_name_the_file(tmp_path: Path, damage: Any, message: str) -> None:
    folder = make_folder(tmp_path / "a")
    damage(folder)
    with pytest.raises(UserError, match=message):
        list(open_samples(tmp_path, camera_spec()))


def test_frames_need_a_model_that_takes_cameras(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    with pytest.raises(UserError, match=r"only for a model that says what it takes.*\.npz"):
        open_samples(tmp_path)
    with pytest.raises(UserError, match="plain takes no camera images"):
        open_samples(tmp_path, plain_spec())


@pytest.mark.data
def test_real_samples_round_trip_through_npz(edgeport_data: Path, tmp_path: Path) -> None:
    spec = camera_spec(nuscenes_like_rig())
    samples = open_samples(edgeport_data / "nuscenes", spec)
    assert isinstance(samples, FrameSamples)
    assert len(samples) == 2
    assert 0.1 < samples.rig_mismatch < 1.0  # another rig than the synthetic one
    written = write_samples(samples, tmp_path / "set", source="nuscenes")
    assert hash_samples(written) == hash_samples(samples)
    assert [frame.name for frame in samples.frames()] == list(written.names)
    assert samples.subset([1]).names == samples.names[1:]
