"""How near a network's outputs stay to those of the float network, judged as what they are.

What decides the outputs (`calibration.graph.telling`) is judged in dB of energy over noise. Where
labels are made of it, energy is the wrong judge: most voxels are free space, most pixels are road,
and what is rare costs little. There the probabilities decide, with P of the float network and R of
the other one, every class alike:

    overlap = mean over classes of [ sum over positions of min(P, R) / sum of max(P, R) ]

and the noise is what is missing to 1. Chances, each a Sigmoid, are judged so too, as one class. On
a trained FlashOcc this ranks assignments as their mIoU on ground truth does; by energy, one that
lost 2.2 points came before one that lost 1.1.

Of the heads of a detector every position counts as much as the float network gives it a chance:
boxes are read from a few cells of a map, and numbers in the others mean nothing. With all cells
alike a LiDAR detector found 343 of its 480 boxes again.

The sums are made inside the session that runs the other network, so that nothing large leaves it.
Of many positions every nth is looked at: the probabilities of 640,000 voxels took as long as all
convolutions before them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.graph.telling import Judged, Telling
from calibration.rounding.shares import decibels
from calibration.samples.base import Array

if TYPE_CHECKING:
    import onnx_ir as ir

FEWEST_POSITIONS = 1.0
"""Of a class, by probability: what is expected nowhere says nothing."""

POSITIONS = 1 << 17
"""Of more than these every second, third, ... along the longest axis is judged."""

FEWEST_ALONG = 8
"""Positions that are left along that axis."""

_LEAST_RANK = 3
"""Of numbers that have channels: an axis 1 of two counts samples, steps or objects."""

_TINY = 1e-30


def given_name(told: Telling) -> str:
    """The input under which `append_sums` wants the float network's numbers, `as_judged`."""
    return f"{told.name}/real"


def weight_name(told: Telling) -> str:
    """The input for how much each position counts, where there are chances beside it."""
    return f"{told.name}/weight"


class Real(NamedTuple):
    """The float network's side of a comparison, on one sample.

    Attributes:
        given: what the inputs of `append_sums` are, by name.
        own: of everything that is judged, what the sums are in the float network itself: its
            energy by channel, or P by class.
    """

    given: dict[str, Array]
    own: list[NDArray[np.float64]]


def real_of(told: Sequence[Telling], outputs: Sequence[Array]) -> Real:
    """Args: what is judged, and the float network's numbers, one array each."""
    given = _given_of(told, outputs)
    return Real(given, [_own_sums(one, given) for one in told])


def _given_of(told: Sequence[Telling], outputs: Sequence[Array]) -> dict[str, Array]:
    arrays = {one.name: array for one, array in zip(told, outputs, strict=True)}
    given = {given_name(one): as_judged(arrays[one.name], one) for one in told}
    for one in told:
        if one.beside:
            best = [arrays[name].max(axis=1, keepdims=True) for name in one.beside]
            given[weight_name(one)] = _chances(np.max(best, axis=0))
    return given


def as_judged(array: Array, told: Telling) -> Array:
    """Probabilities where those are judged, of the positions that are; else the numbers."""
    if told.judged is Judged.ENERGY:
        return array
    axis, step = _thinned(told)
    if step > 1:
        array = array[(slice(None),) * axis + (slice(None, None, step),)]
    if told.axis is None:
        return _chances(array)
    raised: NDArray[np.float32] = np.exp(array - array.max(axis=told.axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=told.axis, keepdims=True), np.float32)


def _chances(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)


def append_sums(graph: ir.Graph, made: ir.Value, told: Telling) -> None:
    """One output more, the noise's energy; or two, by class: sum of min(P, R) and sum of R.

    Energy is summed by channel where the shape tells of channels, axis 1 of three or more.
    """
    import onnx_ir as ir

    def node(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        added = ir.node(op_type, inputs, attributes)
        graph.append(added)
        added.name = added.outputs[0].name = f"{told.name}/{op_type}{len(graph)}"
        result: ir.Value = added.outputs[0]
        return result

    def constant(role: str, *numbers: int) -> ir.Value:
        name = f"{told.name}/{role}"
        value = ir.val(name, const_value=ir.tensor(np.array(numbers, np.int64), name=name))
        graph.register_initializer(value)
        return value

    real = ir.val(given_name(told), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(real)
    if told.beside:
        weight = ir.val(weight_name(told), type=ir.TensorType(ir.DataType.FLOAT))
        graph.inputs.append(weight)
    if told.judged is Judged.ENERGY:
        noise = node("Sub", made, real)
        counted = [node("Mul", noise, noise)]
    else:
        axis, step = _thinned(told)
        if step > 1:
            ends = constant("from", 0), constant("to", np.iinfo(np.int64).max)
            made = node("Slice", made, *ends, constant("along", axis), constant("step", step))
        shares = (
            node("Sigmoid", made) if told.axis is None else node("Softmax", made, axis=told.axis)
        )
        counted = [node("Min", shares, real), shares]
    if told.beside:
        counted = [node("Mul", value, weight) for value in counted]
    summed = _summed(told)
    axes = (constant("axes", *summed),) if summed else ()
    for value in [node("ReduceSum", value, *axes, keepdims=0) for value in counted]:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(value)


def _own_sums(told: Telling, given: Mapping[str, Array]) -> NDArray[np.float64]:
    real = np.asarray(given[given_name(told)], np.float64)
    if told.judged is Judged.ENERGY:
        real = np.square(real)
    if told.beside:
        real = real * given[weight_name(told)]
    return np.atleast_1d(real.sum(axis=_summed(told) or None))


def fidelity_db(told: Sequence[Telling], real: Real, sums: Iterable[Array]) -> float:
    """The mean over what is judged; ``sums`` are the outputs that `append_sums` made."""
    seen = iter(sums)
    return float(np.mean([_db(one, own, seen) for one, own in zip(told, real.own, strict=True)]))


def _db(told: Telling, own: NDArray[np.float64], seen: Iterator[Array]) -> float:
    if told.judged is Judged.ENERGY:
        return decibels(float(own.sum()), float(np.sum(next(seen), dtype=np.float64)))
    return decibels(1.0, 1.0 - overlap(own, next(seen), next(seen)))


def overlap(real: NDArray[np.float64], least: Array, made: Array) -> float:
    """The mean over classes; args: by class the sums of P, of min(P, R) and of R."""
    expected = real >= min(FEWEST_POSITIONS, float(real.max()))
    most = np.maximum(real + made - least, _TINY)  # max(a, b) = a + b - min(a, b)
    return float(np.mean((np.atleast_1d(least) / most)[expected]))


def _summed(told: Telling) -> tuple[int, ...]:
    """The axes that are summed over: all but that of the classes, or of channels; () is all."""
    rank = len(told.shape)
    kept = told.axis
    if told.judged is Judged.ENERGY and rank >= _LEAST_RANK and told.shape[1] is not None:
        kept = 1
    return () if kept is None else tuple(axis for axis in range(rank) if axis != kept)


def _thinned(told: Telling) -> tuple[int, int]:
    """The axis along which positions are left out, and the step from one to the next."""
    if told.beside:
        return 0, 1  # those that count are few already
    known = [size for size in told.shape if size is not None]
    if not known or len(known) < len(told.shape):
        return 0, 1
    sizes = [1 if axis == told.axis else size for axis, size in enumerate(known)]
    axis = int(np.argmax(sizes))
    wanted = math.ceil(math.prod(sizes) / POSITIONS)
    return axis, max(1, min(wanted, sizes[axis] // FEWEST_ALONG))
