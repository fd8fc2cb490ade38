"""Samples from camera frames: a reader gives frames, the model's family makes inputs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from calibration.samples.base import LABEL_PREFIX, Array
from calibration.samples.checks import checked
from exporters.errors import UserError
from exporters.files import sha256_bytes
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec, canonical_json
from exporters.variants import family_of


class FrameSamples:
    """Camera frames as inputs of one model; a frame is read or rendered when it is its turn.

    Args:
        names: one a frame.
        load: index to frame.
        identity: what the frames' content depends on, as JSON; enters ``sha256``.
        spec: of the model that takes the samples.
    """

    def __init__(
        self,
        names: Sequence[str],
        load: Callable[[int], CameraFrame],
        identity: Any,
        spec: ModelSpec | None,
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
        self._names = tuple(names)
        self._load = load
        self._identity = identity
        self._spec = spec

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def sha256(self) -> str:
        """Hash of what determines the content: the frames' origin and how they become inputs."""
        inputs = [asdict(item) for item in self._spec.inputs]
        content = {"frames": self._identity, "inputs": inputs, "geometry": self._spec.geometry}
        return sha256_bytes(canonical_json(content).encode())

    @property
    def rig_mismatch(self) -> float:
        """How much the first frame's rig differs from the one that the model has baked in.

        The share of points that land in another cell, 0 to 1; 0 where the rig is an input.
        """
        return family_of(self._spec).rig_mismatch(self._load(0).rig, self._spec)

    def subset(self, indices: Sequence[int]) -> FrameSamples:
        """The frames at ``indices``, in that order."""
        chosen = list(indices)
        names = [self._names[index] for index in chosen]
        identity = {"of": self._identity, "chosen": chosen}
        return FrameSamples(names, lambda index: self._load(chosen[index]), identity, self._spec)

    def frames(self) -> Iterator[CameraFrame]:
        """The frames themselves, one at a time."""
        return (self._load(index) for index in range(len(self)))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for frame in self.frames():
            sample = family_of(self._spec).prepare(frame, self._spec)
            labels = {LABEL_PREFIX + name: value for name, value in frame.labels.items()}
            yield checked({**sample, **labels}, frame.name, self._spec)
