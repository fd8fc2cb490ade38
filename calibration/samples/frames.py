"""Samples from camera frames: a reader gives frames, the model's family makes inputs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from calibration.samples.base import LABEL_PREFIX, Array
from calibration.samples.lazy import LazySamples
from calibration.samples.sequences import PAST_FRAMES
from exporters.errors import UserError
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec
from exporters.variants import family_of


class FrameSamples(LazySamples):
    """Camera frames as inputs of one model; a frame is read or rendered when it is its turn.

    Args:
        names: one a frame.
        frame: index to frame.
        identity: index to what the frame's content depends on, as JSON; enters ``sha256``.
        spec: of the model that takes the samples.
        groups: scene of each frame; None where there are none.
    """

    def __init__(
        self,
        names: Sequence[str],
        frame: Callable[[int], CameraFrame],
        identity: Callable[[int], Any],
        spec: ModelSpec | None,
        groups: Sequence[str] | None = None,
    ) -> None:
        if spec is None:
            raise UserError(
                "camera frames become samples only for a model that says what it takes",
                fix="Export it with edgeport, or give samples as .npz files",
            )
        if not any(item.semantics == "camera-images" for item in spec.inputs):
            raise UserError(
                f"{spec.variant} takes no camera images, but the source holds camera frames",
                fix="Give samples as .npz files",
            )
        self._frame = frame
        self._taker = spec
        super().__init__(names, self._prepared, identity, spec, groups)

    def _prepared(self, index: int) -> dict[str, Array]:
        frame = self._frame(index)
        labels = {LABEL_PREFIX + name: value for name, value in frame.labels.items()}
        if self._taker.states:
            labels[LABEL_PREFIX + PAST_FRAMES] = np.array([len(frame.past)], np.int32)
        return {**family_of(self._taker).prepare(frame, self._taker), **labels}

    @property
    def rig_mismatch(self) -> float:
        """How much the first frame's rig differs from the one that the model has baked in.

        The share of points that land in another cell, 0 to 1; 0 where the rig is an input.
        """
        return family_of(self._taker).rig_mismatch(self._frame(0).rig, self._taker)

    def subset(self, indices: Sequence[int]) -> FrameSamples:
        """The frames at ``indices``, in that order."""
        chosen = list(indices)
        return FrameSamples(
            [self.names[index] for index in chosen],
            lambda index: self._frame(chosen[index]),
            lambda index: self._identity(chosen[index]),
            self._taker,
            [self.groups[index] for index in chosen],
        )

    def frames(self) -> Iterator[CameraFrame]:
        """The frames themselves, one at a time."""
        return (self._frame(index) for index in range(len(self)))
