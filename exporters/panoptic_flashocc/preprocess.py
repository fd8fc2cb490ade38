"""From a camera frame to the inputs of a Panoptic-FlashOcc model file, from its self-description.

What FlashOcc takes (``exporters.flashocc.preprocess``), and where the model asks for them: vectors
of the cameras, how the vehicle moved since earlier frames, and how many of those the scene has.
The past maps themselves are states; ``exporters.streaming`` keeps them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc import preprocess as flashocc
from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec
from exporters.panoptic_flashocc.ports import CAMERA_VECTORS, LENGTH, MOTION, cell_motion

Array = NDArray[Any]


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, Array]:
    """The model's inputs for one frame, without states.

    Raises:
        UserError: as FlashOcc's ``prepare``.
    """
    inputs = flashocc.prepare(frame, spec)
    names = {port.name for port in spec.inputs}
    rig = frame.rig.ordered(spec.input("images").details["cameras"])
    if CAMERA_VECTORS in names:
        inputs[CAMERA_VECTORS] = camera_vectors(rig, View.from_json(spec.geometry["view"]))
    if MOTION in names:
        count = int(spec.geometry["history"])
        grid = Grid.from_json(spec.geometry["grid"])
        key = rig.cameras[0].name
        poses = [earlier.ordered([key]).cameras[0].ego2global for earlier in frame.past[:count]]
        inputs[MOTION] = cell_motion(rig.cameras[0].ego2global, poses, grid, count)
    if LENGTH in names:
        remembered = min(len(frame.past), int(spec.geometry["history"]))
        inputs[LENGTH] = np.array([remembered], np.int32)
    return inputs
