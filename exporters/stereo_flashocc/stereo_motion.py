"""How the pixels of each camera moved since the frame before; without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.geometry import View, image_augmentation
from exporters.flashocc.rig import Camera, Rig


def stereo_motion(now: Rig, earlier: Rig, view: View) -> NDArray[np.float32]:
    """H and b of every camera, float32 ``[N, 3, 4]``.

    With A the resize and crop, K the intrinsics and (R, t) from this camera pose to the earlier
    one: ``H = A K R K^-1 A^-1`` and ``b = A K t``.
    """
    return np.stack(
        [
            _camera_motion(a, b, view)
            for a, b in zip(now.cameras, earlier.ordered(now.names).cameras, strict=True)
        ]
    )


def _camera_motion(now: Camera, earlier: Camera, view: View) -> NDArray[np.float32]:
    scale, left, top = image_augmentation(now.width, now.height, view)
    augment = np.array([[scale, 0, -left], [0, scale, -top], [0, 0, 1.0]])
    project = augment @ now.intrinsics
    there = earlier.ego2global @ earlier.sensor2ego
    pose = np.linalg.inv(there) @ now.ego2global @ now.sensor2ego
    found = np.concatenate(
        [project @ pose[:3, :3] @ np.linalg.inv(project), project @ pose[:3, 3:]], axis=1
    )
    return found.astype(np.float32)
