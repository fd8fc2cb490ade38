"""Names of the graph's inputs and outputs; without torch."""

from __future__ import annotations

from exporters.panoptic_flashocc.ports import BEV, CAMERA_VECTORS, LENGTH, MOTION

STEREO_MOTION = "stereo_motion"
STEREO = "stereo"
"""The stereo feature of this frame: an output, to be kept for the next frame."""

PAST_BEV, PAST_STEREO = "history_1", "stereo_1"

__all__ = [
    "BEV",
    "CAMERA_VECTORS",
    "LENGTH",
    "MOTION",
    "PAST_BEV",
    "PAST_STEREO",
    "STEREO",
    "STEREO_MOTION",
]
