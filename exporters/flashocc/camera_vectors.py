"""What a DepthNet is told about a camera: 27 numbers, in upstream's order.

| values | what                                                                                 |
|--------|--------------------------------------------------------------------------------------|
| 0-3    | fx, fy, cx, cy of the original image, pixels                                         |
| 4-9    | resize and crop: r00, r01, t0, r10, r11, t1 of ``pixel' = r pixel + t``               |
| 10-14  | BEV augmentation: b00, b01, b10, b11, b22; the identity outside training             |
| 15-26  | the three upper rows of the camera's pose in the key ego frame, row by row           |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.geometry import View, image_augmentation, sensor_to_key_ego
from exporters.flashocc.rig import Rig

CAMERA_VALUES = 27


def camera_vectors(rig: Rig, view: View) -> NDArray[np.float32]:
    """The vectors of all cameras of ``rig``, float32 ``[N, 27]``."""
    vectors = np.zeros((len(rig), CAMERA_VALUES), np.float32)
    poses = sensor_to_key_ego(rig)
    for vector, camera, pose in zip(vectors, rig.cameras, poses, strict=True):
        scale, left, top = image_augmentation(camera.width, camera.height, view)
        k = camera.intrinsics
        vector[:4] = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
        vector[4:10] = scale, 0.0, -left, 0.0, scale, -top
        vector[10:15] = 1.0, 0.0, 0.0, 1.0, 1.0
        vector[15:] = pose[:3].reshape(-1)
    return vectors
