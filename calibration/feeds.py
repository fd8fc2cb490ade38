"""Samples against a model's inputs: what a bad calibration set gets is a sentence, not a range.

Checked for every sample as it streams by: names, shapes and types are those of the model, no NaN or
infinity, and no input that is one constant (a black image calibrates nothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.samples.base import Array, Sample, Samples, inputs_of
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_SAMPLES = 2

_MAY_BE_CONSTANT = frozenset({"state", "rig-table"})
_CONSTANT_FROM = 16  # elements from which on a constant input is taken for a mistake


@dataclass(frozen=True)
class ExpectedInput:
    """One graph input. ``shape`` has None where the size is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    may_be_constant: bool


def expected_inputs(graph: ir.Graph, spec: ModelSpec | None) -> tuple[ExpectedInput, ...]:
    """What the graph wants to be fed; semantics come from the self-description if there is one."""
    semantics: Mapping[str, str] = {i.name: i.semantics for i in spec.inputs} if spec else {}
    return tuple(
        ExpectedInput(
            name=value.name or "",
            dtype="float32" if value.dtype is None else value.dtype.numpy().name,
            shape=None
            if value.shape is None
            else tuple(d if isinstance(d, int) else None for d in value.shape),
            may_be_constant=semantics.get(value.name or "", "tensor") in _MAY_BE_CONSTANT,
        )
        for value in graph.inputs
        if not value.is_initializer()
    )


def require_enough(samples: Samples, minimum: int = MIN_SAMPLES) -> None:
    count = len(samples)
    if count < minimum:
        raise UserError(
            f"the calibration set holds {count} sample(s), at least {minimum} are needed",
            fix="Make a larger one with: edgeport samples SOURCE -o DIR",
        )


def checked_feeds(
    samples: Samples, expected: tuple[ExpectedInput, ...]
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield ``(sample name, feeds)``; the first sample that does not fit the model is an error.

    Raises:
        UserError: names the sample, the input, and what is wrong with it.
    """
    for name, sample in zip(samples.names, samples, strict=True):
        yield name, _check(name, sample, expected)


def _check(name: str, sample: Sample, expected: tuple[ExpectedInput, ...]) -> dict[str, Array]:
    given = inputs_of(sample)
    known = [e.name for e in expected]
    for key in given:
        if key not in known:
            raise UserError(
                f"sample {name!r} has {key!r}, which is no input of the model",
                fix=did_you_mean(key, known),
            )
    feeds: dict[str, Array] = {}
    for item in expected:
        if item.name not in given:
            raise UserError(
                f"sample {name!r} lacks the model's input {item.name!r}; it has {sorted(given)}",
                fix="Make the samples for this model: edgeport samples SOURCE --model FILE -o DIR",
            )
        array = np.asarray(given[item.name])
        problem = _problem(array, item)
        if problem:
            raise UserError(f"sample {name!r}: input {item.name!r} {problem[0]}", fix=problem[1])
        feeds[item.name] = np.ascontiguousarray(array)
    return feeds


def _problem(array: Array, item: ExpectedInput) -> tuple[str, str] | None:
    """What is wrong with an array and how to mend it; None if nothing is."""
    again = "Make the samples for this model: edgeport samples SOURCE --model FILE -o DIR"
    if array.dtype.name != item.dtype:
        return f"is {array.dtype.name}, the model takes {item.dtype}", again
    if item.shape is not None and not _fits(array.shape, item.shape):
        wanted = "x".join("?" if d is None else str(d) for d in item.shape)
        return f"is {'x'.join(map(str, array.shape))}, the model takes {wanted}", again
    if not array.size:
        return "is empty", again
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        return "holds NaN or infinity", "Remove this sample, or mend what made it"
    if not item.may_be_constant and array.size >= _CONSTANT_FROM and _is_constant(array):
        value = array.reshape(-1)[0]
        return f"is {value} everywhere", "Remove this sample: a constant input calibrates nothing"
    return None


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        w is None or s == w for s, w in zip(shape, wanted, strict=True)
    )


def _is_constant(array: Array) -> bool:
    flat: Any = array.reshape(-1)
    # nearly every real sample differs early, so that the full comparison is seldom needed
    head = flat[:1024]
    return bool((head == head[0]).all() and (flat == flat[0]).all())
