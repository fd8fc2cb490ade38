"""Objects as KITTI writes them, and how much two overlap: in the image, from above, in space.

Camera coordinates: x to the right, y down, z ahead; a box stands on the middle of its bottom, and
``rotation_y`` turns its length from x towards -z. From above a box is the rectangle x, z, length,
width; in space the common height is that of [y - h, y].
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.rotated import intersection_areas
from exporters.errors import UserError

Array = NDArray[Any]
Float = NDArray[np.float64]

Kind = Literal["2d", "bev", "3d"]
KINDS: tuple[Kind, ...] = ("2d", "bev", "3d")

DONT_CARE = "DontCare"
_COLUMNS = 15


def _no_numbers() -> Float:
    return np.zeros(0)


@dataclass(frozen=True)
class KittiObjects:
    """Of one frame, ground truth or found.

    Attributes:
        names: ``[n]``, Car, Van, Pedestrian …
        pixels: ``[n, 4]``, left, top, right, bottom.
        sizes: ``[n, 3]``, height, width, length in metres.
        places: ``[n, 3]``, middle of the bottom.
        rotation: ``[n]``, about y, radians.
        alpha: ``[n]``, the same as seen along the ray from the camera.
        truncation, occlusion: ``[n]``; of ground truth.
        scores: ``[n]``; of what was found.
        ignored_pixels: ``[m, 4]``, areas in which nothing was labelled.
    """

    names: tuple[str, ...]
    pixels: Float
    sizes: Float
    places: Float
    rotation: Float
    alpha: Float
    truncation: Float = field(default_factory=_no_numbers)
    occlusion: Float = field(default_factory=_no_numbers)
    scores: Float = field(default_factory=_no_numbers)
    ignored_pixels: Float = field(default_factory=lambda: np.zeros((0, 4)))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, path: Path) -> KittiObjects:
        """From a file of ``label_2``, or of results, which has a column with scores more.

        Raises:
            UserError: a line has too few columns, or no numbers in them.
        """
        lines = path.read_text(encoding="ascii").splitlines()
        rows = [line.split() for line in lines if line.strip()]
        fix = "Every line has a name and 14 numbers, and those of results a score"
        if any(len(row) < _COLUMNS for row in rows):
            raise UserError(f"{path} is no label file of KITTI: too few columns", fix=fix)
        try:
            numbers = np.array([[*row[1:], "0"][:_COLUMNS] for row in rows], float)
        except ValueError as error:
            raise UserError(f"{path} is no label file of KITTI: {error}", fix=fix) from error
        numbers = numbers.reshape(-1, _COLUMNS)
        kept = np.array([row[0] != DONT_CARE for row in rows], bool)
        found = numbers[kept]
        return cls(
            names=tuple(row[0] for row in rows if row[0] != DONT_CARE),
            pixels=found[:, 3:7],
            sizes=found[:, 7:10],
            places=found[:, 10:13],
            rotation=found[:, 13],
            alpha=found[:, 2],
            truncation=found[:, 0],
            occlusion=found[:, 1],
            scores=found[:, 14],
            ignored_pixels=numbers[~kept, 3:7],
        )

    def scored(self, scores: Array) -> KittiObjects:
        """The same objects as if found with these scores."""
        return replace(self, scores=np.asarray(scores, np.float64))

    def chosen(self, which: Array) -> KittiObjects:
        """Some of the objects, by index or mask ``[n]``; ignored areas stay."""
        index = np.arange(len(self))[which]
        changed: dict[str, Any] = {"names": tuple(self.names[i] for i in index)}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ("names", "ignored_pixels") and len(value) == len(self):
                changed[item.name] = value[index]
        return replace(self, **changed)


def overlaps(truth: KittiObjects, found: KittiObjects, kind: Kind) -> Float:
    """Intersection over union ``[truth, found]``."""
    if kind == "2d":
        return _image_share(truth.pixels, found.pixels)
    rows = [np.c_[o.places[:, [0, 2]], o.sizes[:, [2, 1]], -o.rotation] for o in (truth, found)]
    common = intersection_areas(*rows)
    amounts = [o.sizes[:, 1] * o.sizes[:, 2] for o in (truth, found)]
    if kind == "3d":
        bottoms = np.minimum.outer(truth.places[:, 1], found.places[:, 1])
        tops = [o.places[:, 1] - o.sizes[:, 0] for o in (truth, found)]
        common = common * np.maximum(bottoms - np.maximum.outer(*tops), 0)
        amounts = [a * o.sizes[:, 0] for a, o in zip(amounts, (truth, found), strict=True)]
    return _ratio(common, np.add.outer(*amounts) - common)


def covered_by_ignored(truth: KittiObjects, found: KittiObjects) -> Float:
    """Which share of each found image box lies in each ignored area, ``[ignored, found]``."""
    return _image_share(truth.ignored_pixels, found.pixels, of_second=True)


def _image_share(first: Float, second: Float, *, of_second: bool = False) -> Float:
    """IoU ``[n, m]`` of image boxes; or intersection over the second one's area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (first, second)]
    if of_second:
        return _ratio(common, np.broadcast_to(areas[1], common.shape))
    return _ratio(common, np.add.outer(*areas) - common)


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
