"""What the report draws: camera images of a sample, and the occupancy that each file predicts.

Instances are drawn where a model has them. Files number them as they come, so the numbers of every
grid are made those of the first grid where two instances are the same (`deploy.instances`): then
one thing has one colour in all views.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Samples, inputs_of, labels_of
from deploy.instances import numbered_as
from deploy.metrics.occupancy import SEMANTICS
from deploy.metrics.occupancy_metrics import INSTANCES, instance_output
from deploy.metrics.task import has_ground_truth, occupancy_output
from deploy.sessions import open_session
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec
from exporters.panoptic_flashocc.centres import THING_CLASSES

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
    ids = instance_output(spec)
    chosen = list(islice(zip(samples.names, samples, strict=True), count))
    drawn: list[list[_Drawn]] = [[] for _ in chosen]
    for role, path in files.items():
        with open_session(path, threads=threads) as session:
            for (_, sample), grids in zip(chosen, drawn, strict=True):
                outputs = session.run(inputs_of(sample))
                labels = outputs[output.name]
                if output.semantics.endswith("logits"):
                    labels = labels.argmax(axis=-1)
                grids.append(_Drawn(role, labels, outputs[ids.name] if ids else None))
    for (_, sample), grids in zip(chosen, drawn, strict=True):
        truth = labels_of(sample)
        if has_ground_truth(truth, spec):
            found = _true_things(truth, spec) if ids else None
            grids.append(_Drawn("ground truth", truth[SEMANTICS], found))
    return [
        _scene(spec, output, name, sample) | {"grids": _packed(grids)}
        for (name, sample), grids in zip(chosen, drawn, strict=True)
    ]


class _Drawn(NamedTuple):
    """One grid: labels ``[x, y, z]``, and the number of each voxel's instance, 0 for none."""

    name: str
    labels: Array
    instances: Array | None


def _true_things(truth: Mapping[str, Array], spec: ModelSpec) -> Array | None:
    """Instances of the ground truth; its numbers of road, trees and the like are left out."""
    if INSTANCES not in truth:
        return None
    things = [index for index, name in enumerate(spec.classes) if name in THING_CLASSES]
    found: Array = np.where(np.isin(truth[SEMANTICS], things), truth[INSTANCES], 0)
    return found


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
    }


def _packed(grids: Sequence[_Drawn]) -> list[JSON]:
    """Entries under ``grids``; instances take the numbers of the first grid that has any."""
    first = next((grid.instances for grid in grids if grid.instances is not None), None)
    entries = []
    for name, labels, instances in grids:
        entry = {"name": name, "labels": _pack(labels, "u1"), "note": ""}
        if instances is not None and first is not None:
            entry["instances"] = _pack(numbered_as(first, instances), "<u2")
        entries.append(entry)
    return entries


def _pack(voxels: Array, kind: str) -> str:
    packed = zlib.compress(np.ascontiguousarray(voxels).astype(kind).tobytes(), level=9)
    return base64.b64encode(packed).decode()


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
