"""From a camera frame to the inputs of an M2 or M3 model file, without states."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from exporters.flashocc.geometry import View
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec
from exporters.panoptic_flashocc import preprocess as temporal
from exporters.stereo_flashocc.ports import STEREO_MOTION
from exporters.stereo_flashocc.stereo_motion import stereo_motion


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The model's inputs for one frame: as with a memory, and how each camera moved.

    Raises:
        UserError: as FlashOcc's ``prepare``.
    """
    inputs = temporal.prepare(frame, spec)
    rig = frame.rig.ordered(spec.input("images").details["cameras"])
    earlier = frame.past[0] if frame.past else rig
    view = View.from_json(spec.geometry["view"])
    inputs[STEREO_MOTION] = stereo_motion(rig, earlier, view)
    return inputs
