"""What the error of a single layer does to the network's outputs, everything else left in float.

An error's size says little of what it costs: calibration clips tensors to a few decibels where that
is good for the outputs. So the float network is run with the error d of one tensor x added to it,

    outputs(x + d)   against   outputs(x)

and the outputs are judged as what they are (`calibration.scales.fidelity`). One session serves all
tensors: the others' d is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from calibration.graph.prepare import canonical
from calibration.graph.queries import values_by_name
from calibration.graph.telling import telling_values
from calibration.observing.sessions import lean_options, open_session
from calibration.samples.base import Array
from calibration.scales.fidelity import Real, append_sums, fidelity_db, real_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Feeds = Mapping[str, Array]


class Given(NamedTuple):
    """A sample: the network's inputs, and what the float network makes of them."""

    feeds: Feeds
    real: Real


class OutputTrial:
    """The float network with room for an error in each of some tensors.

    Args:
        model: the float model; left alone.
        tensors: names of tensors of it, or of inputs, that are floats.
        threads: of ONNX Runtime; None for all cores.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Iterable[str], *, threads: int | None = None
    ) -> None:
        float_model = canonical(model)
        self._told = telling_values(float_model.graph)
        self._errors: dict[str, tuple[str, Any]] = {}
        self._inputs = [value.name or "" for value in float_model.graph.inputs]
        if not self._told:
            return
        options = lean_options()
        options.intra_op_num_threads = threads or 0
        plain = float_model.clone()
        values = values_by_name(plain.graph)
        plain.graph.outputs[:] = [values[told.name] for told in self._told]
        self._plain = open_session(plain, options)
        values = values_by_name(float_model.graph)
        for tensor in tensors:
            self._errors[tensor] = _with_room(float_model.graph, values[tensor])
        float_model.graph.outputs.clear()
        for told in self._told:  # where its own error is added, its sum is what is judged
            summed = self._summed(float_model.graph, values[told.name])
            append_sums(float_model.graph, summed, told)
        self._session = open_session(float_model, options)

    @property
    def is_possible(self) -> bool:
        """Whether any output comes from numbers that can be compared."""
        return bool(self._told)

    def given(self, sample: Feeds) -> Given:
        """What `fidelity_db` takes for a sample."""
        feeds = {name: sample[name] for name in self._inputs}
        names = [told.name for told in self._told]
        return Given(feeds, real_of(self._told, self._plain.run(names, feeds)))

    def fidelity_db(self, given: Given, tensor: str, error: Array) -> float:
        """How near the outputs stay, the mean over them, with ``error`` added to ``tensor``."""
        zeros = {name: np.zeros((), dtype) for name, dtype in self._errors.values()}
        name, dtype = self._errors[tensor]
        feeds = {**given.feeds, **given.real.given, **zeros, name: error.astype(dtype)}
        return fidelity_db(self._told, given.real, self._session.run(None, feeds))

    def _summed(self, graph: ir.Graph, value: ir.Value) -> ir.Value:
        sums = {node.inputs[0]: node.outputs[0] for node in graph if _is_sum(node)}
        return sums.get(value, value)


_ERROR = "/error"  # behind the name of a tensor: the input that is added to it


def _is_sum(node: ir.Node) -> bool:
    return (node.name or "").endswith(_ERROR)


def _with_room(graph: ir.Graph, value: ir.Value) -> tuple[str, Any]:
    """Let all who read ``value`` read ``value + error``; name and type of the input for the error.

    The error may be a scalar, which stands for itself everywhere.
    """
    import onnx_ir as ir

    dtype = value.dtype or ir.DataType.FLOAT
    error = ir.val(f"{value.name}{_ERROR}", type=ir.TensorType(dtype))
    graph.inputs.append(error)
    readers = list(value.uses())
    added = ir.node("Add", [value, error], name=f"{value.name}{_ERROR}")
    added.outputs[0].name = f"{value.name}/summed"
    maker = value.producer()
    if maker is None:
        graph.insert_before(graph[0], added)
    else:
        graph.insert_after(maker, added)
    for node, index in readers:
        node.replace_input_with(index, added.outputs[0])
    return error.name or "", dtype.numpy()
