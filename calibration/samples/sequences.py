"""Where one sequence ends and the next begins, for models that remember.

A state is right only if the sample before it in the set is the frame before it in the world. Camera
frames say how many key frames their scene has behind them (``label.past_frames``), and models with
a memory take that number as an input, cut off at what they remember; where neither is there, a new
group is a new sequence. A gap is an error: with a frame left out, the memory would be of another
moment than the motion that comes with the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from calibration.samples.base import LABEL_PREFIX, Array, Sample, Samples
from calibration.samples.findings import Finding, SamplesRefusedError
from exporters.errors import UserError
from exporters.modelfile import ModelSpec
from exporters.streaming import Stream

PAST_FRAMES = "past_frames"
"""Label of camera frames: int32 ``[1]``, key frames of the scene before this one."""

HISTORY_LENGTH = "history-length"
"""Semantics of the input that says how much of a memory counts."""


class Sequences:
    """Lets one model run through a set, sequence after sequence.

    Args:
        run: feeds, states included, to outputs by name.
    """

    def __init__(
        self, spec: ModelSpec, run: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    ) -> None:
        self._spec, self._run = spec, run
        self._depth = max((state.age for state in spec.states), default=0)
        self._length = next((i.name for i in spec.inputs if i.semantics == HISTORY_LENGTH), "")
        self._inputs = tuple(item.name for item in spec.inputs)
        self._group: str | None = None
        self._behind = 0
        self._rolls = True

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self._spec, self._run)

    def feeds(self, name: str, group: str | None, sample: Sample) -> dict[str, Array]:
        """``sample`` with the states that it is to be run with; its own where it brings them.

        Args:
            group: of :func:`groups_of`.

        Raises:
            SamplesRefusedError: samples of its sequence are missing before it.
        """
        self._rolls = not brings_states(sample, self._spec)
        if not self._rolls:
            return dict(sample)
        if self._starts(name, group, sample):
            self._stream.reset()
            self._behind = 0
        self._group = group
        return self._stream.feeds(sample)

    def keep(self, outputs: Mapping[str, Array]) -> None:
        """Remember what the sample of the last `feeds` left behind."""
        if self._rolls:
            self._stream.keep(outputs)
            self._behind += 1

    def run(self, name: str, group: str | None, sample: Sample) -> Mapping[str, Array]:
        """The outputs for the next sample; as `feeds`."""
        feeds = self.feeds(name, group, sample)
        outputs = self._run({key: feeds[key] for key in self._inputs if key in feeds})
        self.keep(outputs)
        return outputs

    def _starts(self, name: str, group: str | None, sample: Sample) -> bool:
        """Whether a sequence begins with this sample."""
        label, same = LABEL_PREFIX + PAST_FRAMES, group == self._group
        if label in sample:
            behind, before = int(sample[label].item()), self._behind
        elif self._length in sample:
            behind, before = int(sample[self._length].item()), min(self._behind, self._depth)
        else:
            return not same
        if behind and (behind != before or not same):
            seen = before if same else 0
            raise SamplesRefusedError(
                [
                    Finding(
                        "order",
                        "error",
                        f"sample {name} is frame {behind + 1} of its sequence or later, but the "
                        f"set has {seen} of them before it, so nobody knows what the model "
                        "remembers there",
                        "Give sequences whole and in order of time, as synthetic:2x20 does",
                        (name,),
                    )
                ]
            )
        return behind == 0


def groups_of(samples: Samples) -> tuple[str | None, ...]:
    """The sequence of each sample; None where the set does not say."""
    groups = getattr(samples, "groups", None)
    if groups is None or tuple(groups) == tuple(samples.names):
        return (None,) * len(samples)
    return tuple(groups)


def require_beginnings(source: Samples, chosen: Iterable[str]) -> None:
    """Check that a choice, by name, leaves nothing out of a sequence but its end.

    Raises:
        UserError: a model with a memory could not be run on it.
    """
    groups, taken = groups_of(source), set(chosen)
    begun: dict[str | None, str] = {}
    for name, group in zip(source.names, groups, strict=True):
        if name not in taken:
            begun.setdefault(group, name)
        elif group is not None and group in begun:
            raise UserError(
                f"the set would lack {begun[group]}, which comes before {name} in its sequence, "
                "and the model remembers",
                fix="Take whole sequences: as many samples as one, two or three of them have",
            )


def brings_states(sample: Mapping[str, Any], spec: ModelSpec) -> bool:
    """Whether a sample holds the states that it is to be run with."""
    return all(state.input in sample for state in spec.states)
