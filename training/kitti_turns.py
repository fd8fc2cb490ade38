"""Labelled frames of a KITTI object root as training data, in the form of generated turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.kitti import LABELS, SCANS, KittiRoot
from exporters.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class KittiTurns:
    """Frames that have a scan and labels, cropped to what the camera sees."""

    root: KittiRoot
    numbers: tuple[str, ...]
    classes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, classes: tuple[str, ...]) -> KittiTurns:
        """The frames of ``path``.

        Raises:
            UserError: it is no KITTI root, or no frame has labels.
        """
        root = KittiRoot.find(path)
        if root is None:
            raise UserError(f"{path} is no KITTI root", fix="It holds training/velodyne and calib")
        scans = {file.stem for file in (root.path / SCANS).glob("*.bin")}
        numbers = sorted(scans & {file.stem for file in (root.path / LABELS).glob("*.txt")})
        if not numbers:
            raise UserError(
                f"no frame of {root.path} has labels", fix=f"Put {LABELS} beside {SCANS}"
            )
        return cls(root, tuple(numbers), classes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Array]:
        """One frame; see `training.clouds.Clouds`."""
        number = self.numbers[index]
        points = self.root.points(number, "camera").values[:, :4]
        labels = self.root.labels(number)
        rows = [
            (self.classes.index(str(name)), *box)
            for name, box in zip(labels["box_names"], labels["boxes"], strict=True)
            if str(name) in self.classes
        ]
        boxes = np.array(rows, np.float32).reshape(-1, 8)
        owner = owners(points, boxes)
        return {"points": points, "owner": owner, "boxes": boxes, "ahead": np.array(True)}


def owners(points: Array, boxes: Array) -> NDArray[np.int16]:
    """Row of the box that each point lies in, -1 for none; ``boxes`` have the class first."""
    found = np.full(len(points), -1, np.int16)
    for row, box in enumerate(boxes):
        away = points[:, :3] - box[1:4]
        cos, sin = np.cos(box[7]), np.sin(box[7])
        own = np.c_[away[:, :2] @ np.array([[cos, -sin], [sin, cos]]), away[:, 2]]
        found[(np.abs(own) <= box[4:7] / 2).all(axis=1)] = row
    return found
