"""Camera frames from sample folders: images, a ``sample.json`` with the rig, labels if any.

A sample folder holds ``sample.json`` with, per camera, ``image`` (file name), ``intrinsics``,
``sensor2ego`` and ``ego2global`` (matrices as in ``rig.json``), and optionally ``labels.npz`` of
Occ3D (``semantics``, ``mask_camera``, ``mask_lidar``, uint8 ``[200, 200, 16]``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from calibration.samples.frames import FrameSamples
from calibration.samples.image_files import read_image
from calibration.samples.npz import read_npz
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.flashocc.rig import RIG_SCHEMA, CameraFrame, Rig
from exporters.modelfile import ModelSpec

DESCRIPTION = "sample.json"
LABELS = "labels.npz"

_MATRICES = ("intrinsics", "sensor2ego", "ego2global")


def sample_folders(path: Path) -> list[Path]:
    """``path`` itself if it is a sample folder, else its sub-folders that are, sorted by name."""
    if (path / DESCRIPTION).is_file():
        return [path]
    return sorted(file.parent for file in path.glob(f"*/{DESCRIPTION}"))


def open_folders(path: Path, spec: ModelSpec | None) -> FrameSamples:
    """The sample folders under ``path`` as samples of a model."""
    folders = sample_folders(path)
    return FrameSamples(
        [folder.name for folder in folders],
        lambda index: read_frame(folders[index]),
        lambda index: _hashes(folders[index]),
        spec,
    )


def read_frame(folder: Path) -> CameraFrame:
    """One sample folder.

    Raises:
        UserError: a file is missing, truncated or malformed; names it.
    """
    description = _description(folder)
    cameras, images = [], {}
    for name, entry in description.items():
        image = read_image(folder / str(entry["image"]))
        height, width = image.shape[:2]
        matrices = {key: entry[key] for key in _MATRICES if key in entry}
        cameras.append({"name": name, "width": width, "height": height, **matrices})
        images[name] = image
    rig = Rig.from_json(
        {"schema": RIG_SCHEMA, "cameras": cameras}, source=str(folder / DESCRIPTION)
    )
    labels = read_npz(folder / LABELS) if (folder / LABELS).is_file() else {}
    return CameraFrame(folder.name, rig, images, labels)


def _description(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / DESCRIPTION
    try:
        cameras: dict[str, dict[str, Any]] = json.loads(path.read_text())["cameras"]
        for name, entry in cameras.items():
            if "image" not in entry:
                raise UserError(f"{path}: camera {name} names no image")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no description of cameras: {error!r}",
            fix='It needs {"cameras": {NAME: {"image", "intrinsics", "sensor2ego"}}}',
        ) from error
    return cameras


def _hashes(folder: Path) -> dict[str, str]:
    images = [folder / str(entry["image"]) for entry in _description(folder).values()]
    files = [folder / DESCRIPTION, *images, folder / LABELS]
    return {file.name: sha256_file(file) for file in files if file.is_file()}
