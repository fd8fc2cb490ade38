"""Post-processing: from a network's outputs to what the application works with.

What that is follows from the model's self-description:

| semantics | answer |
|---|---|
| ``occupancy-labels`` | occupied voxels: centres float32 ``[n, 3]`` in metres, classes ``[n]`` |
| ``occupancy-logits`` | argmax over classes, then the same |

For any other model nobody but its user knows; ``module:function`` is then called with a dict of
outputs by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.own import load_own
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec

Array = NDArray[Any]
Answer = Callable[[Mapping[str, Array]], Any]


def answer_of(spec: ModelSpec, own: str | None = None) -> Answer | None:
    """What turns the outputs of a model into an answer; None where nobody says.

    Args:
        own: the user's ``module:function``, which goes before what the model says.

    Raises:
        UserError: no such function.
    """
    if own is not None:
        found: Answer = load_own(own, "--post")
        return found
    for output in spec.outputs:
        if output.semantics in ("occupancy-labels", "occupancy-logits"):
            return _Occupied(output)
    return None


class _Occupied:
    """Occupied voxels of one output."""

    def __init__(self, output: OutputSpec) -> None:
        details = output.details
        self._name = output.name
        self._logits = output.semantics == "occupancy-logits"
        self._free = int(details["free_class"])
        self._voxel_m = np.array(details["voxel_m"], np.float32)
        self._origin_m = np.array(details["origin_m"], np.float32) + self._voxel_m / 2

    def __call__(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Centres of occupied voxels, metres, and their classes."""
        if self._name not in outputs:
            raise UserError(f"the file has no output {self._name!r}, which its model describes")
        labels = outputs[self._name]
        if self._logits:
            labels = labels.argmax(axis=-1)
        occupied = np.nonzero(labels != self._free)
        cells = np.stack(occupied, axis=-1).astype(np.float32)
        return cells * self._voxel_m + self._origin_m, labels[occupied]
