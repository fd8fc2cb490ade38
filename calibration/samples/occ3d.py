"""Occupancy labels of Occ3D-nuScenes, plain or with instance ids as SparseOcc adds them.

    ROOT/gts/scene-0061/TOKEN/labels.npz                semantics mask_lidar mask_camera
    ROOT/occ3d_panoptic/scene-0061/TOKEN/labels.npz     the same and instances

All arrays are uint8 ``[x, y, z]``, 200 x 200 x 16 voxels of 0.4 m from (-40, -40, -1) in the
vehicle's frame at the LiDAR's time. Classes are 0 to 17, 17 is free, 255 does not count; masks
are 0 or 1; instances count from 1 and are 0 where nothing is (Occ3D, arXiv:2304.14365; SparseOcc,
arXiv:2312.17118).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibration.samples.base import Array
from calibration.samples.npz import read_npz
from exporters.errors import UserError

SEMANTICS = "semantics"
MASKS = ("mask_camera", "mask_lidar")
INSTANCES = "instances"
LABELS = "labels.npz"

PANOPTIC, PLAIN = "occ3d_panoptic", "gts"
"""Folders beside the tables of nuScenes; where both have a key frame, the first is read."""

_LARGEST = 17
_IGNORED = 255


def occupancy_file(root: Path, scene: str, token: str) -> Path | None:
    """The labels of a key frame under a nuScenes root; None where it has none."""
    files = (root / folder / scene / token / LABELS for folder in (PANOPTIC, PLAIN))
    return next((file for file in files if file.is_file()), None)


def read_occupancy(path: Path) -> dict[str, Array]:
    """The arrays of one ``labels.npz``, uint8.

    Raises:
        UserError: no such file, damaged, or no occupancy labels.
    """
    arrays = read_npz(path)
    wrong = _what_is_wrong(arrays)
    if wrong:
        raise UserError(
            f"{path} holds no occupancy labels of Occ3D: {wrong}",
            fix="Download it again, or take it away to use the key frame without occupancy",
        )
    known = (SEMANTICS, *MASKS, INSTANCES)
    return {name: arrays[name].astype(np.uint8) for name in known if name in arrays}


def _what_is_wrong(arrays: Mapping[str, Array]) -> str:
    semantics = arrays.get(SEMANTICS)
    if semantics is None:
        return f"it has {sorted(arrays) or 'nothing'}, not {SEMANTICS}"
    if semantics.ndim != 3:
        return f"{SEMANTICS} has shape {list(semantics.shape)}, not three axes"
    for name in (SEMANTICS, *MASKS, INSTANCES):
        array = arrays.get(name, semantics)
        if array.shape != semantics.shape:
            return f"{name} has shape {list(array.shape)}, {SEMANTICS} {list(semantics.shape)}"
        if array.dtype.kind not in "uib" or (
            array.size and not 0 <= array.min() <= array.max() < 256
        ):
            return f"{name} holds {array.dtype.name} values that are no uint8"
    classes = semantics[semantics != _IGNORED]
    if classes.size and classes.max() > _LARGEST:
        return f"class {classes.max()}, the highest is {_LARGEST}"
    for name in MASKS:
        if name in arrays and arrays[name].size and arrays[name].max() > 1:
            return f"{name} holds {arrays[name].max()}, a mask is 0 or 1"
    return ""
