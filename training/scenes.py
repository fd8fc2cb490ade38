"""Frames of the generated world as training data, rendered once and kept as compressed arrays.

    CACHE/<key>/00017.npz   images, semantics, mask_camera, instances, depth, boxes

The key is a hash of everything that a frame depends on, so another image size or world has another
folder. Frames are rendered by several processes; a file that is there is not rendered again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.synthetic import WORLD_VERSION, Stage, scaled
from calibration.samples.world.render import Hits
from calibration.samples.world.solids import Actor
from calibration.samples.world.voxelize import DETECTED
from exporters.files import written_atomically
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.preprocess import resize_and_crop
from exporters.flashocc.rig import Rig

Array = NDArray[Any]


@dataclass(frozen=True)
class Scenes:
    """Frames ``range(count)`` of the world ``seed`` as a network sees them.

    Attributes:
        cache: folder that rendered frames are kept in.
    """

    cache: Path
    view: View
    grid: Grid
    seed: int
    count: int

    @property
    def rig(self) -> Rig:
        """The default rig with cameras as wide as the network's images."""
        width = self.view.image_size[1]
        return Rig(tuple(scaled(camera, width) for camera in nuscenes_like_rig().cameras))

    @property
    def folder(self) -> Path:
        told = {
            "world": WORLD_VERSION,
            "seed": self.seed,
            "image_size": self.view.image_size,
            "stride": self.view.stride,
            "grid": self.grid.to_json(),
            "rig": self.rig.sha256,
        }
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
        return self.cache / f"world-{self.seed}-{key}"

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.npz"

    def __getitem__(self, index: int) -> dict[str, Array]:
        """One frame.

        Returns:
            ``images`` uint8 ``[N, H, W, 3]``; ``semantics``, ``mask_camera``, ``instances`` uint8
            ``[nx, ny, nz]``; ``depth`` float16 ``[N, fH, fW]``, metres to the nearest surface that
            a feature pixel shows; ``boxes`` float32 ``[n, 8]``: class, centre, length, width,
            height, yaw of what detectors know.
        """
        with np.load(self.path(index)) as file:
            return dict(file)

    def render(self, workers: int = 1) -> None:
        """Render what the cache lacks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [index for index in range(self.count) if not self.path(index).is_file()]
        chunks = [missing[start : start + 16] for start in range(0, len(missing), 16)]
        if workers == 1:
            for chunk in chunks:
                _render(self, chunk)
            return
        with ProcessPoolExecutor(workers) as pool:
            for future in [pool.submit(_render, self, chunk) for chunk in chunks]:
                future.result()


def _render(scenes: Scenes, indices: Sequence[int]) -> None:
    from calibration.samples.world.solids import Label

    stage = Stage(scenes.rig, scenes.grid, [label.name for label in Label])
    for index in indices:
        moment = stage.moment(scenes.seed, index)
        images = [resize_and_crop(moment.images[name], scenes.view) for name in scenes.rig.names]
        arrays: dict[str, Any] = {
            "images": np.stack(images),
            **moment.labels,
            "depth": np.stack([nearest_depth(hit, scenes.view) for hit in moment.hits]),
            "boxes": box_rows(moment.scene.actors),
        }
        with written_atomically(scenes.path(index)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)


def nearest_depth(hits: Hits, view: View) -> NDArray[np.float16]:
    """Depth of the nearest surface in each feature pixel, metres ``[fH, fW]``; inf for sky."""
    height, _ = view.image_size
    rows, columns = view.feature_size
    depth = hits.depth[-height:].reshape(rows, view.stride, columns, view.stride)
    nearest: NDArray[np.float16] = depth.min(axis=(1, 3)).astype(np.float16)
    return nearest


def box_rows(actors: Sequence[Actor]) -> NDArray[np.float32]:
    """Boxes ``[n, 8]`` of the actors that detectors know."""
    rows = [
        (actor.label, *actor.centre, *actor.size, actor.yaw)
        for actor in actors
        if actor.label in DETECTED
    ]
    return np.array(rows, np.float32).reshape(-1, 8)
