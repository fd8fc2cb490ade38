"""Pictures of cameras through the graph, equal bit for bit to what Pillow makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.samples import inputs_of, open_samples
from exporters import export
from exporters.errors import UserError
from exporters.flashocc.camera_resize import CameraResize
from exporters.flashocc.default_rig import default_rig
from exporters.flashocc.geometry import View
from exporters.flashocc.preprocess import prepare, resize_and_crop
from exporters.flashocc.rig import CameraFrame, Rig
from exporters.modelfile import ModelFile
from exporters.trace import trace

SMALL = View(image_size=(32, 80))
"""80 columns in blocks of 40."""


class Alone(nn.Module):
    """The resize as a graph of its own, uint8 ``[N, H, W, 3]`` to float32 ``[N, 3, h, w]``."""

    def __init__(self, camera_size: tuple[int, int], view: View) -> None:
        super().__init__()
        self.resize = CameraResize(camera_size, view)

    def forward(self, pictures: Tensor) -> Tensor:
        resized: Tensor = self.resize(pictures.to(torch.float32).permute(0, 3, 1, 2))
        return resized


def noise(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Noise in the first picture, black and white in the others."""
    random = np.random.default_rng(seed)
    found = 255 * random.integers(0, 2, (count, *size, 3), dtype=np.uint8)
    found[0] = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    return found


def by_pillow(pictures: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    return np.stack([resize_and_crop(picture, view) for picture in pictures])


def as_pictures(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    moved: NDArray[np.float32] = planes.transpose(0, 2, 3, 1)
    return moved


@settings(max_examples=40)
@given(st.integers(20, 200), st.integers(20, 260), st.integers(0, 2**32 - 1))
def test_any_camera_size_equals_pillow(height: int, width: int, seed: int) -> None:
    assume(height <= 2 * width)  # beyond, Pillow 13 resamples columns first
    pictures = noise(2, (height, width), seed)
    with torch.no_grad():
        found = Alone((height, width), SMALL)(torch.from_numpy(pictures)).numpy()
    np.testing.assert_array_equal(as_pictures(found), by_pillow(pictures, SMALL))


def test_rows_above_a_flat_picture_are_black() -> None:
    pictures = noise(1, (20, 200))
    found = as_pictures(Alone((20, 200), SMALL)(torch.from_numpy(pictures)).numpy())
    assert found[:, : 32 - 8].max() == 0
    assert found[:, 32 - 8 :].max() > 0
    np.testing.assert_array_equal(found, by_pillow(pictures, SMALL))


@pytest.fixture(scope="module")
def nuscenes_graph() -> onnx.ModelProto:
    pictures = torch.zeros((6, 900, 1600, 3), dtype=torch.uint8)
    return trace(Alone((900, 1600), View()), {"pictures": pictures}, ["planes"])


def run(proto: onnx.ModelProto, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime as ort

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    planes: NDArray[np.float32] = session.run(None, {"pictures": pictures})[0]
    return as_pictures(planes)


def test_the_graph_of_six_cameras_equals_pillow(nuscenes_graph: onnx.ModelProto) -> None:
    pictures = noise(6, (900, 1600))
    np.testing.assert_array_equal(run(nuscenes_graph, pictures), by_pillow(pictures, View()))


@pytest.mark.data
def test_real_pictures_equal_pillow(nuscenes_graph: onnx.ModelProto, edgeport_data: Path) -> None:
    from PIL import Image

    for folder in sorted(path.parent for path in edgeport_data.glob("nuscenes/*/sample.json")):
        files = sorted(folder.glob("CAM_*.jpg"))
        pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        np.testing.assert_array_equal(run(nuscenes_graph, pictures), by_pillow(pictures, View()))


def test_tensorrt_rtx_builds_it(nuscenes_graph: onnx.ModelProto, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    from runtimes import build

    path = tmp_path / "resize.onnx"
    onnx.save(nuscenes_graph, path)
    engine = build(path, tmp_path / "resize.engine", runtime="tensorrt")
    assert engine.passport.inputs[0].shape == (6, 900, 1600, 3)


@pytest.fixture(scope="module")
def camera_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = tmp_path_factory.mktemp("camera") / "m.onnx"
    return export("flashocc-nano", path, input="camera").model


def test_the_file_says_that_it_takes_the_cameras_pictures(camera_model: ModelFile) -> None:
    images = camera_model.require_spec().input("images")
    assert (images.dtype, images.shape) == ("uint8", (6, 900, 1600, 3))
    assert images.details["camera_size"] == [900, 1600]
    assert images.details["resize"].startswith("in the graph: PIL bicubic")
    assert images.details["layout"] == "NHWC"


def test_prepare_gives_the_pictures_as_they_are(camera_model: ModelFile) -> None:
    rig = default_rig()
    pictures = noise(6, (900, 1600))
    frame = CameraFrame("f", rig, dict(zip(rig.names, pictures, strict=True)), {})
    feeds = prepare(frame, camera_model.require_spec())
    np.testing.assert_array_equal(feeds["images"], pictures)


def test_the_same_labels_as_with_pillow_in_front(camera_model: ModelFile, tmp_path: Path) -> None:
    import onnxruntime as ort

    resized = export("flashocc-nano", tmp_path / "resized.onnx").model
    pictures = noise(6, (900, 1600))
    view = View.from_json(resized.require_spec().geometry["view"])
    ours = ort.InferenceSession(str(camera_model.path)).run(None, {"images": pictures})[0]
    theirs = ort.InferenceSession(str(resized.path)).run(
        None, {"images": by_pillow(pictures, view)}
    )[0]
    np.testing.assert_array_equal(ours, theirs)


def test_the_synthetic_world_renders_pictures_of_that_size(camera_model: ModelFile) -> None:
    sample = inputs_of(next(iter(open_samples("synthetic:1", camera_model.require_spec()))))
    assert sample["images"].shape == (6, 900, 1600, 3)


def test_pictures_of_another_size_are_refused(camera_model: ModelFile) -> None:
    rig = Rig(tuple(dataclasses.replace(c, width=800, height=450) for c in default_rig().cameras))
    frame = CameraFrame("f", rig, dict(zip(rig.names, noise(6, (450, 800)), strict=True)), {})
    with pytest.raises(UserError, match="f has pictures of 450x800, the model takes 900x1600"):
        prepare(frame, camera_model.require_spec())


def test_cameras_of_different_sizes_are_refused(tmp_path: Path) -> None:
    first, *others = default_rig().cameras
    rig = Rig((dataclasses.replace(first, width=800, height=450), *others))
    with pytest.raises(UserError, match=r"takes pictures of one size, the rig has .* 450x800"):
        export("flashocc-nano", tmp_path / "m.onnx", rig=rig, input="camera")


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_casting_leaves_the_resize_in_fp32(
    nuscenes_graph: onnx.ModelProto, tmp_path: Path, to: str
) -> None:
    from calibration.precision.casting import cast_proto

    proto = onnx.ModelProto()
    proto.CopyFrom(nuscenes_graph)
    weight = onnx.numpy_helper.from_array(np.full((704, 8), 0.3, np.float32), "w")
    proto.graph.initializer.append(weight)
    proto.graph.node.append(onnx.helper.make_node("MatMul", ["planes", "w"], ["y"], name="layer"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, [6, 3, 256, 8]))
    cast, report = cast_proto(proto, to=to)
    assert report["cast"] == {"MatMul": 1}, "the layer alone"
    pictures = noise(6, (900, 1600))
    if to == "fp16":  # ONNX Runtime has no BF16 on CPUs
        np.testing.assert_array_equal(run(cast, pictures), by_pillow(pictures, View()))
