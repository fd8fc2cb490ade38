"""The offline form of a memory: every past frame pooled anew, where it lies now.

This is how upstream's accuracies were measured: the n past frames go through the network each time,
with poses ``inverse(ego of the current key camera) . ego then . camera``, so their maps need no
warping. n + 1 runs a frame, for accuracy and not for a vehicle. The model file is exported with
``history="offline", rig="input"``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.flashocc.preprocess import rig_tables
from exporters.flashocc.rig import CameraFrame, Matrix, Rig
from exporters.modelfile import ModelSpec
from exporters.panoptic_flashocc.ports import BEV, CAMERA_VECTORS, LENGTH, MOTION, history_names
from exporters.panoptic_flashocc.preprocess import prepare

Arrays = Mapping[str, NDArray[Any]]


def run_offline(
    spec: ModelSpec,
    run: Callable[[Arrays], Arrays],
    frame: CameraFrame,
    past: Sequence[CameraFrame],
) -> dict[str, NDArray[Any]]:
    """The model's outputs for ``frame``, its past seen anew.

    Args:
        run: feeds to outputs by name.
        past: earlier frames of the same scene, the latest first.

    Raises:
        UserError: the model is of another form.
    """
    names = {port.name for port in spec.inputs}
    if MOTION in names or LENGTH not in names:
        raise UserError(
            f"{spec.variant} has no offline memory",
            fix="Export a network with a memory with --history offline --rig input",
        )
    count = int(spec.geometry["history"])
    slots = history_names(count)
    shape: Any = spec.input(slots[0]).shape
    empty = {slot: np.zeros(shape, np.float32) for slot in slots}
    current = prepare(frame, spec)
    key = frame.rig.ordered(spec.input("images").details["cameras"]).cameras[0].ego2global
    maps = {}
    for slot, earlier in zip(slots, past, strict=False):
        seen = prepare(dataclasses.replace(earlier, past=()), spec)
        order = spec.input("images").details["cameras"]
        seen |= rig_tables(rig_seen_from(earlier.rig.ordered(order), key), spec)
        if CAMERA_VECTORS in current:  # of the current frame for all frames, as upstream
            seen[CAMERA_VECTORS] = current[CAMERA_VECTORS]
        maps[slot] = run({**seen, **empty, LENGTH: np.zeros(1, np.int32)})[BEV]
    return dict(run({**current, **empty, **maps, LENGTH: np.array([len(maps)], np.int32)}))


def rig_seen_from(rig: Rig, key: Matrix) -> Rig:
    """``rig`` as if all cameras were mounted on the vehicle that stands at ``key``, 4x4."""
    to_key = np.linalg.inv(key)
    return Rig(
        tuple(
            dataclasses.replace(
                camera,
                sensor2ego=to_key @ camera.ego2global @ camera.sensor2ego,
                ego2global=np.eye(4),
            )
            for camera in rig.cameras
        )
    )
