"""The report shows the images that the network saw."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.samples import InMemorySamples
from deploy.scenes import as_rgb, draw_scenes
from deploy.sessions import open_session
from exporters.flashocc.preprocess import normalise
from exporters.modelfile import InputSpec

from .conftest import Mini, blocky_images


def test_normalised_planes_become_the_image_again() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    details = {
        "layout": "NCHW",
        "color_order": "BGR",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
    }
    spec = InputSpec("images", "float32", (2, 3, 8, 12), "camera-images", details)
    assert np.array_equal(as_rgb(spec, normalise(images)), images)


def test_a_scene_has_the_cameras_and_the_ground_truth(mini: Mini) -> None:
    (sample,) = blocky_images(1, 4, mini.spec)
    truth = np.random.default_rng(1).integers(0, 18, (40, 40, 4)).astype(np.uint8)
    labels = {"label.semantics": truth, "label.mask_camera": np.ones_like(truth)}
    samples = InMemorySamples([{**sample, **labels}], names=["corner"])
    (scene,) = draw_scenes(mini.spec, {"fp32": mini.fp32}, samples, 5, threads=1)
    assert (scene["sample"], scene["shape"], scene["free"]) == ("corner", [40, 40, 4], 17)
    assert [grid["name"] for grid in scene["grids"]] == ["fp32", "ground truth"]
    packed = zlib.decompress(base64.b64decode(scene["grids"][1]["labels"]))
    assert np.array_equal(np.frombuffer(packed, np.uint8).reshape(truth.shape), truth)
    data = base64.b64decode(scene["images"][2]["data_uri"].split(",")[1])
    drawn = np.asarray(Image.open(io.BytesIO(data)), np.float64)
    # JPEG at quality 80 of blocks of eight pixels: colours are a few levels off
    assert np.abs(drawn - sample["images"][2]).mean() < 12
    assert draw_scenes(mini.spec, {}, samples, 0, threads=1) == []


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_scenes_as_asked(mini: Mini, count: int) -> None:
    scenes = draw_scenes(mini.spec, {}, blocky_images(2, 4, mini.spec), count, threads=1)
    assert len(scenes) == count


def test_instances_are_drawn_where_a_model_has_them(tmp_path: Path) -> None:
    """Those of the model as they came, those of the ground truth without road and trees."""
    from exporters import export

    model = export("panoptic-flashocc-nano", tmp_path / "nano.onnx").model
    spec = model.require_spec()
    (sample,) = blocky_images(1, 4, spec)
    shape = spec.outputs[0].shape
    truth = np.full(shape, spec.classes.index("driveable_surface"), np.uint8)
    truth[:4, :4, :2] = spec.classes.index("car")
    ids = np.where(truth == spec.classes.index("car"), 1, 2).astype(np.uint8)
    labels = {"semantics": truth, "mask_camera": np.ones_like(truth), "instances": ids}
    full = sample | {f"label.{key}": value for key, value in labels.items()}
    (scene,) = draw_scenes(spec, {"fp32": model.path}, InMemorySamples([full]), 1, threads=1)
    found = []
    for grid in scene["grids"]:
        packed = zlib.decompress(base64.b64decode(grid["instances"]))
        found.append(np.frombuffer(packed, "<u2").reshape(shape))
    with open_session(model.path, threads=1) as session:
        assert np.array_equal(found[0], session.run(sample)["instances"])
    assert found[0].any()
    assert np.array_equal(found[1] > 0, truth == spec.classes.index("car"))
