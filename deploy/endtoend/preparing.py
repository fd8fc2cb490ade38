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
from exporters.streaming import Stream

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
        self._spec = spec
        self._execute: Execute | None = None
        self._stream = Stream(spec, self._now)  # of another drive maybe, which costs the same

    @property
    def answers(self) -> bool:
        """Whether somebody says what the outputs are for."""
        return self._answer is not None

    def feeds(self, index: int) -> dict[str, Array]:
        """Inputs of frame ``index``, with the states that the frame before has left."""
        return self._stream.feeds(inputs_of(self._source.sample(index % self.count)))

    def frame(self, index: int, execute: Execute) -> Spent:
        """Do frame ``index`` from its files to its answer."""
        self._execute = execute
        with listening() as spans:
            feeds = self.feeds(index)
            outputs, seconds = execute(feeds)
            self._stream.keep(outputs)
            if self._answer is not None:
                with span(POST):
                    self._answer(outputs)
        for step, spent in seconds.items():
            spans.seconds[step] += spent
        return Spent({name: 1e3 * spent for name, spent in spans.seconds.items()})

    def _now(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """What the network makes of ``feeds``; zeros for its states before it has run."""
        if self._execute is not None:
            return self._execute(feeds)[0]
        ports = {state.output: self._spec.input(state.input) for state in self._spec.states}
        return {name: np.zeros(port.shape, port.dtype) for name, port in ports.items()}  # type: ignore[arg-type]


def digest_of(feeds: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(feeds):
        value = np.ascontiguousarray(feeds[name])
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
