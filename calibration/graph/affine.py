"""Fold what multiplies and adds constants into the convolutions next to it.

A batch normalisation, a learnable affine block or a bias that became a node of its own computes
``y = a x + b`` with constants a and b, one number or one a channel. Runtimes fold few of the
spellings; every one that is left costs a pass over the tensor, and in INT8 a border. Here all go,
in float64, wherever zero padding allows:

    behind a convolution    a (W * x + b0) + b  =  (a W) * x + (a b0 + b)
    in front of one         W * (a x + b)       =  (W a) * x + (b0 + sum W b)     without padding
                            W * (a x)           =  (W a) * x                      always

A convolution that pads sees zeros where ``a x + b`` has none: there b stays, as ``x + b / a``. In
front, only what is the same for all channels is folded: else the weights of one filter would differ
in size as the channels do, and share one scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.conv import conv_geometry
from calibration.graph.queries import attribute, constant, fresh_name, only_reader, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

Doubles = NDArray[np.float64]

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})

SMALLEST_GAIN = 1e-6
"""A shift is divided by no less."""


@dataclass(frozen=True)
class Affine:
    """y = gain x + shift, each a number or one for each channel ``[C]``."""

    gain: Doubles
    shift: Doubles

    def then(self, after: Affine) -> Affine:
        return Affine(after.gain * self.gain, after.gain * self.shift + after.shift)

    @classmethod
    def scale(cls, gain: Any) -> Affine:
        return cls(np.asarray(gain, dtype=np.float64), np.zeros(()))

    @classmethod
    def offset(cls, shift: Any) -> Affine:
        return cls(np.ones(()), np.asarray(shift, dtype=np.float64))

    @classmethod
    def batch_norm(
        cls, gamma: Any, beta: Any, mean: Any, variance: Any, *, epsilon: float
    ) -> Affine:
        """In inference form; each argument but ``epsilon`` is ``[C]``."""
        gain = np.asarray(gamma, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
        return cls(gain, np.asarray(beta, np.float64) - gain * np.asarray(mean, np.float64))

    @property
    def is_neutral(self) -> bool:
        return bool(np.all(self.gain == 1) and np.all(self.shift == 0))

    @property
    def is_uniform(self) -> bool:
        """The same for every channel."""
        return self.gain.size == 1 and self.shift.size == 1


def affine_of(node: ir.Node) -> tuple[int, Affine] | None:
    """Data slot of a node and what it does to each channel; None if it does anything else."""
    if node.op_type == "BatchNormalization" and not attribute(node, "training_mode", 0):
        arrays = [constant(value) for value in node.inputs[1:5]]
        known = [array for array in arrays if array is not None]
        if len(known) < 4:
            return None
        return 0, Affine.batch_norm(*known, epsilon=attribute(node, "epsilon", 1e-5))
    if node.op_type == "Identity":
        return 0, Affine.scale(1.0)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    slot = 1 if constant(node.inputs[0]) is not None else 0
    array = _per_channel(node.inputs[1 - slot], node.inputs[slot])
    if array is None or (slot == 1 and node.op_type in ("Sub", "Div")):
        return None
    if node.op_type == "Mul":
        return slot, Affine.scale(array)
    if node.op_type == "Div":
        return (slot, Affine.scale(1 / array)) if np.all(array) else None
    return slot, Affine.offset(-array if node.op_type == "Sub" else array)


def _per_channel(value: ir.Value | None, beside: ir.Value | None) -> Doubles | None:
    """A constant as one number or one for each channel (axis 1) of ``beside``; None if neither."""
    array = constant(value)
    if array is None or beside is None or constant(beside) is not None:
        return None
    rank = None if beside.shape is None else len(beside.shape)
    if array.size == 1 and (array.ndim <= 1 or (rank is not None and array.ndim <= rank)):
        return np.asarray(array, np.float64).reshape(())
    if rank is None or array.ndim > rank:
        return None
    aligned = (1,) * (rank - array.ndim) + array.shape
    if len(aligned) < 2 or aligned[1] != array.size:
        return None
    return np.asarray(array, np.float64).reshape(-1)


def fold_affine(graph: ir.Graph) -> int:
    """Fold in place; the tensors that remain keep their names.

    Returns:
        How many nodes that leaves less.
    """
    before = len(graph)
    for node in [n for n in graph if n.op_type in _CONVOLUTIONS]:
        while _fold_behind(graph, node):
            pass
    shifted: dict[tuple[ir.Value, float], ir.Value] = {}
    for node in [n for n in graph if n.op_type == "Conv"]:
        _fold_ahead(graph, node, shifted)
    return before - len(graph)


def _fold_behind(graph: ir.Graph, node: ir.Node) -> bool:
    """Take in the affine node that alone reads the result of ``node``; whether there was one."""
    result = node.outputs[0]
    reader = only_reader(result)
    found = None if reader is None else affine_of(reader)
    parameters = _parameters(node)
    if reader is None or found is None or parameters is None:
        return False
    slot, affine = found
    weight, bias = parameters
    axis = 1 if node.op_type == "ConvTranspose" else 0
    grouped = axis == 1 and attribute(node, "group", 1) != 1
    if reader.inputs[slot] is not result or (grouped and not affine.is_uniform):
        return False
    gain = np.broadcast_to(affine.gain, weight.shape[axis])
    shape = [1] * weight.ndim
    shape[axis] = -1
    _set_parameters(graph, node, weight * gain.reshape(shape), affine.gain * bias + affine.shift)
    _take_over(graph, reader, result)
    return True


def _take_over(graph: ir.Graph, reader: ir.Node, result: ir.Value) -> None:
    """Remove ``reader``; ``result``, which it alone read, gets its name and its readers."""
    old = reader.outputs[0]
    name = old.name
    old.replace_all_uses_with(result, replace_graph_outputs=old.is_graph_output())
    result.shape, result.type = old.shape, old.type
    _remove(graph, reader)
    result.name = name


def _fold_ahead(
    graph: ir.Graph, node: ir.Node, shifted: dict[tuple[ir.Value, float], ir.Value]
) -> None:
    """Take in the uniform affine nodes in front of ``node``, as far as its padding allows.

    Args:
        shifted: the sums ``x + b / a`` made so far: several convolutions may read one.
    """
    value, parameters = node.inputs[0], _parameters(node)
    if value is None or parameters is None:
        return
    source, affine = _chain(value)
    if source is value or (affine.is_neutral and source.is_graph_input()):
        return
    weight, bias = parameters
    gain, shift = float(affine.gain), float(affine.shift)
    padded = shift != 0 and _may_pad(node, weight)
    if padded:
        lonely = all(use.node.op_type == "Conv" for use in value.uses())
        if gain == 1 or not lonely or abs(gain) < SMALLEST_GAIN or value.is_graph_output():
            return
        key = (source, shift / gain)
        if key not in shifted:
            shifted[key] = _sum(graph, node, value, *key)
        source = shifted[key]
    else:
        bias = bias + shift * weight.sum(axis=tuple(range(1, weight.ndim)))
    _set_parameters(graph, node, gain * weight, bias)
    node.replace_input_with(0, source)
    _remove_unread(graph, value)


def _chain(value: ir.Value) -> tuple[ir.Value, Affine]:
    """Where the uniform affine nodes that end in ``value`` begin, and what they do together."""
    affine = Affine.scale(1.0)
    while (maker := value.producer()) is not None:
        found = affine_of(maker)
        source = None if found is None else maker.inputs[found[0]]
        if found is None or source is None or not found[1].is_uniform:
            break
        value, affine = source, found[1].then(affine)
    return value, affine


def _sum(
    graph: ir.Graph, before: ir.Node, like: ir.Value, source: ir.Value, number: float
) -> ir.Value:
    """``source + number`` as a new tensor in front of ``before``."""
    import onnx_ir as ir

    taken = value_names(graph)
    name = fresh_name(taken, f"{like.name}/shift")
    constant_ = ir.val(name, const_value=ir.tensor(np.asarray(number, np.float32), name=name))
    graph.register_initializer(constant_)
    add = ir.node("Add", [source, constant_], name=f"{like.name}/shifted")
    result: ir.Value = add.outputs[0]
    result.name = fresh_name(taken, f"{like.name}/shifted")
    result.shape, result.type = like.shape, like.type
    graph.insert_before(before, add)
    return result


def _may_pad(node: ir.Node, weight: Doubles) -> bool:
    geometry = conv_geometry(node, weight.shape)
    return isinstance(geometry, str) or any(geometry.pads_begin + geometry.pads_end)


def _parameters(node: ir.Node) -> tuple[Doubles, Doubles] | None:
    """Weight and bias ``[out channels]`` in float64; None where they are not float32 constants."""
    weight = constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(given)
    if weight is None or weight.dtype != np.float32 or (given is not None and bias is None):
        return None
    transposed = node.op_type == "ConvTranspose"
    channels = weight.shape[1] * attribute(node, "group", 1) if transposed else weight.shape[0]
    wide = np.zeros(channels) if bias is None else bias.astype(np.float64)
    return weight.astype(np.float64), wide


def _set_parameters(graph: ir.Graph, node: ir.Node, weight: Doubles, bias: Doubles) -> None:
    """As new initializers: others may read the old ones."""
    import onnx_ir as ir

    old = [value for value in node.inputs[1:3] if value is not None]
    taken = value_names(graph)
    node.resize_inputs(3)
    for slot, array, suffix in ((1, weight, "weight"), (2, bias, "bias")):
        name = fresh_name(taken, f"{node.name}/folded_{suffix}")
        value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
        graph.register_initializer(value)
        node.replace_input_with(slot, value)
    _forget(graph, old)


def _remove_unread(graph: ir.Graph, value: ir.Value) -> None:
    """Remove the nodes that made ``value``, as long as nothing reads what they make."""
    node = value.producer()
    while node is not None and not value.uses() and not value.is_graph_output():
        found = affine_of(node)
        source = None if found is None else node.inputs[found[0]]
        if source is None:
            return
        _remove(graph, node)
        value, node = source, source.producer()


def _remove(graph: ir.Graph, node: ir.Node) -> None:
    inputs = [value for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    _forget(graph, inputs)


def _forget(graph: ir.Graph, values: list[ir.Value]) -> None:
    """Drop initializers that nothing reads any more."""
    for value in values:
        if constant(value) is not None and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)
