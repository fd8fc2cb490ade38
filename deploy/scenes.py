"""What the report draws: camera images of a sample, and the occupancy that each file predicts."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Samples, inputs_of, labels_of
from deploy.metrics.occupancy import SEMANTICS
from deploy.metrics.task import has_ground_truth, occupancy_output
from deploy.sessions import open_session
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec

Array = NDArray[Any]
JSON = dict[str, Any]

_JPEG_QUALITY = 80


def draw_scenes(
    spec: ModelSpec, files: Mapping[str, Path], samples: Samples, count: int, threads: int | None
) -> list[JSON]:
    """The entries under ``occupancy`` of ``report.json`` for the first ``count`` samples.

    Args:
        files: name of a grid (``fp32``) to the model file that predicts it.
    """
    output = occupancy_output(spec)
    if output is None or count == 0:
        return []
    chosen = list(islice(zip(samples.names, samples, strict=True), count))
    scenes = [_scene(spec, output, name, sample) for name, sample in chosen]
    for role, path in files.items():
        with open_session(path, threads=threads) as session:
            for (_, sample), scene in zip(chosen, scenes, strict=True):
                labels = session.run(inputs_of(sample))[output.name]
                if output.semantics.endswith("logits"):
                    labels = labels.argmax(axis=-1)
                scene["grids"].append(_grid(role, labels))
    for (_, sample), scene in zip(chosen, scenes, strict=True):
        truth = labels_of(sample)
        if has_ground_truth(truth, spec):
            scene["grids"].append(_grid("ground truth", truth[SEMANTICS]))
    return scenes


def _scene(spec: ModelSpec, output: OutputSpec, name: str, sample: Mapping[str, Array]) -> JSON:
    details = output.details
    images = [item for item in spec.inputs if item.semantics == "camera-images"]
    return {
        "sample": name,
        "shape": list(output.shape[:3]),
        "free": details["free_class"],
        "voxel_m": details["voxel_m"][0],
        "origin_m": details["origin_m"],
        "images": [image for item in images for image in _thumbnails(item, sample[item.name])],
        "grids": [],
    }


def _grid(name: str, labels: Array) -> JSON:
    packed = zlib.compress(np.ascontiguousarray(labels, dtype=np.uint8).tobytes(), level=9)
    return {"name": name, "labels": base64.b64encode(packed).decode(), "note": ""}


def _thumbnails(spec: InputSpec, images: Array) -> list[JSON]:
    """One JPEG for each camera, as the network takes it; whole pictures are made smaller."""
    from PIL import Image

    cameras = spec.details.get("cameras") or [f"camera {i}" for i in range(len(images))]
    found = []
    for camera, pixels in zip(cameras, as_rgb(spec, images), strict=True):
        stream = io.BytesIO()
        picture = Image.fromarray(pixels)
        if "camera_size" in spec.details:
            picture.thumbnail((spec.details["image_size"][1],) * 2)
        picture.save(stream, format="JPEG", quality=_JPEG_QUALITY)
        data = base64.b64encode(stream.getvalue()).decode()
        found.append({"camera": camera, "data_uri": f"data:image/jpeg;base64,{data}"})
    return found


def as_rgb(spec: InputSpec, images: Array) -> NDArray[np.uint8]:
    """uint8 RGB ``[N, H, W, 3]`` from what the model takes, undoing layout and normalisation."""
    details = spec.details
    if details.get("layout") == "NCHW":
        images = np.moveaxis(images, 1, -1)
    if "mean" in details:
        images = images * np.asarray(details["std"]) + np.asarray(details["mean"])
    if details.get("color_order") == "BGR":
        images = images[..., ::-1]
    return np.ascontiguousarray(np.clip(np.rint(images), 0, 255).astype(np.uint8))
