"""One frame from files to answer, every step marked: the same code here and on a board.

What runs the network is handed in, since it differs: a process of this machine's runtimes, or the
session that a board's runner holds open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.samples.base import Array, inputs_of
from deploy.endtoend.answers import answer_of
from deploy.endtoend.frames import open_frames
from exporters.errors import UserError
from exporters.modelfile import ModelSpec
from exporters.spans import POST, listening, span

Execute = Callable[[Mapping[str, Array]], tuple[Mapping[str, Array], Mapping[str, float]]]
"""Feeds to outputs, and seconds of steps that it took itself and did not mark."""


@dataclass(frozen=True)
class Spent:
    """Milliseconds of one frame by step."""

    steps_ms: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        return sum(self.steps_ms.values())


class Preparing:
    """Frames of one source for one model.

    Args:
        count: use the first so many frames in turn; None for all of them.
        post: the user's post-processing, ``module:function``.

    Raises:
        UserError: a source without frames, or whose pictures are decoded already.
    """

    def __init__(
        self, spec: ModelSpec, source: str, post: str | None = None, count: int | None = None
    ) -> None:
        self._source = open_frames(source, spec)
        self.count = len(self._source) if count is None else min(count, len(self._source))
        if not self.count:
            raise UserError(f"{source} holds no frame", fix="Name a source that has some")
        self._answer = answer_of(spec, post)

    @property
    def answers(self) -> bool:
        """Whether somebody says what the outputs are for."""
        return self._answer is not None

    def feeds(self, index: int) -> dict[str, Array]:
        return inputs_of(self._source.sample(index % self.count))

    def frame(self, index: int, execute: Execute) -> Spent:
        """Do frame ``index`` from its files to its answer."""
        with listening() as spans:
            feeds = self.feeds(index)
            outputs, seconds = execute(feeds)
            if self._answer is not None:
                with span(POST):
                    self._answer(outputs)
        for step, spent in seconds.items():
            spans.seconds[step] += spent
        return Spent({name: 1e3 * spent for name, spent in spans.seconds.items()})


def digest_of(feeds: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(feeds):
        value = np.ascontiguousarray(feeds[name])
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
