"""Running a model sample after sample, each seeing what the ones before it left behind.

A model file declares its states: outputs that become inputs of later samples (``StateSpec``). A
:class:`Stream` keeps them, for any runtime: all it needs is a function from feeds to outputs::

    stream = Stream(model.spec, session.run)
    for sample in sequence:
        outputs = stream.run(sample)

States are handed on as they are, without a copy. ``calibration.samples.rolling`` is the same for
whole sample sets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.modelfile import ModelSpec

Arrays = Mapping[str, NDArray[Any]]


class Stream:
    """One sequence at a time through a model with states (a model without any is run as it is).

    Args:
        run: feeds, states included, to outputs by name.
    """

    def __init__(self, spec: ModelSpec, run: Callable[[Arrays], Arrays]) -> None:
        for state in spec.states:
            shape = spec.input(state.input).shape
            if any(isinstance(size, str) for size in shape):
                raise UserError(
                    f"state {state.input!r} has dynamic axes {list(shape)}; it cannot start empty",
                    fix="Export the model with fixed sizes",
                )
        self._spec, self._run = spec, run
        self._kept: dict[str, deque[NDArray[Any]]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new sequence begins.

        Models that are told in the sample how much of their memory counts need no reset.
        """
        ages: dict[str, int] = {}
        for state in self._spec.states:
            ages[state.output] = max(state.age, ages.get(state.output, 0))
        self._kept = {name: deque(maxlen=age) for name, age in ages.items()}

    def run(self, sample: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for the next sample of the sequence."""
        outputs = dict(self._run(self._inputs(self.feeds(sample))))
        self.keep(outputs)
        return outputs

    def keep(self, outputs: Arrays) -> None:
        """Remember what a sample left behind; :meth:`run` does so itself."""
        for name, kept in self._kept.items():
            kept.appendleft(outputs[name])

    def feeds(self, sample: Arrays) -> dict[str, NDArray[Any]]:
        """``sample`` with the states that it would be run with now."""
        feeds = {**sample}
        repeated: dict[str, str] = {}
        for state in self._spec.states:
            kept = self._kept[state.output]
            port = self._spec.input(state.input)
            if len(kept) >= state.age:
                feeds[state.input] = kept[state.age - 1]
            else:
                feeds[state.input] = np.zeros(port.shape, port.dtype)  # type: ignore[arg-type]
                if state.reset == "repeat-current":
                    repeated[state.input] = state.output
        if repeated:  # the output that stands in for the past does not depend on it
            outputs = self._run(self._inputs(feeds))
            feeds |= {name: outputs[output] for name, output in repeated.items()}
        return feeds

    def _inputs(self, feeds: Arrays) -> Arrays:
        """``feeds`` without ground truth and whatever else travels in a sample."""
        return {port.name: feeds[port.name] for port in self._spec.inputs if port.name in feeds}
