"""A copy of a model that measures: extra nodes beside the real ones, sums of squares as outputs.

Alternatives to a layer (other weights, other scales of its input) are computed next to it on the
same real inputs, and only ``sum (y - y^)²`` leaves the graph: memory does not depend on the number
of samples, and everything runs in one session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import WEIGHTED, fresh_name, multiply_adds, value_names
from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.observing.sessions import lean_options, open_session
from calibration.samples.base import Array, Samples
from calibration.samples.subset import spread
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

WORK = 2e11
"""Multiply-adds of the model itself that a probe may spend on samples."""

SILENT_SHARE = 0.01
"""A position with less than this share of the mean energy counts as one with that much."""

_REDUCE_AXES_INPUT = 18  # since then reductions take their axes as an input

FEWEST, MOST, UNKNOWN = 2, 64, 8
"""Samples at least, at most, and where the model's work cannot be told."""

_TINY = 1e-30

Progress = Callable[[str, int, int], None]


class Probe:
    """Build with `node` and `sum_of_squares`, then `run`.

    Add what is measured of the last layer first: ONNX Runtime then frees the activations of a layer
    as soon as they are measured (`calibration.observing.taps` explains).

    Args:
        model: prepared; it is copied, weights are shared.

    Attributes:
        affordable: how many samples `WORK` allows.
    """

    def __init__(self, model: ir.Model) -> None:
        work = sum(multiply_adds(node) for node in model.graph if node.op_type in WEIGHTED)
        self.affordable = min(max(int(WORK / work), FEWEST), MOST) if work else UNKNOWN
        self._model = model.clone()
        self.graph = self._model.graph
        self.graph.outputs.clear()
        self.taken = value_names(self.graph)
        self.nodes = {node.name: node for node in self.graph}
        self.values = {v.name: v for v in self.graph.inputs}
        self.values |= {v.name: v for node in self.graph for v in node.outputs}

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Any = None,
        outputs: int = 1,
    ) -> list[ir.Value]:
        """Append a node; it and its outputs are called ``name``, or nearly so where it is taken."""
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
        for output in node.outputs:
            output.name = fresh_name(self.taken, name)
        node.name = node.outputs[0].name
        self.graph.append(node)
        return list(node.outputs)

    def copy_of(self, node: ir.Node, changed: Mapping[int, ir.Value], name: str) -> ir.Value:
        """First output of ``node`` computed once more, with other inputs in some slots."""
        inputs = [changed.get(slot, value) for slot, value in enumerate(node.inputs)]
        return self.node(node.op_type, inputs, name, node.attributes)[0]

    def constant(self, array: NDArray[Any], name: str) -> ir.Value:
        import onnx_ir as ir

        name = fresh_name(self.taken, name)
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.val(name, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def sum_of_squares(self, value: ir.Value, other: ir.Value | None = None) -> None:
        """One more number to measure: of ``value``, or of its difference from ``other``."""
        import onnx_ir as ir

        if other is not None:
            (value,) = self.node("Sub", [value, other], f"{value.name}/difference")
        (output,) = self.node("ReduceSumSquare", [value], f"{value.name}/sum", {"keepdims": 0})
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        self.graph.outputs.append(output)

    def relative_error(self, value: ir.Value, other: ir.Value, axis: int) -> None:
        """One more number: what ``other`` is off by, every position alike, however large it is.

        With sums over ``axis``, the channels of a position p:

            mean over p of  sum (y - y^)² / (sum y² + SILENT_SHARE · mean over p of sum y²)
        """
        import onnx_ir as ir

        name = value.name or ""
        (error,) = self.node("Sub", [value, other], f"{name}/difference")
        noise = self._sum_over(axis, error, f"{name}/noise")
        energy = self._sum_over(axis, value, f"{name}/energy")
        (mean,) = self.node("ReduceMean", [energy], f"{name}/mean", {"keepdims": 0})
        share = self.constant(np.array(SILENT_SHARE, np.float32), f"{name}/share")
        (floor,) = self.node("Mul", [mean, share], f"{name}/floor")
        tiny = self.constant(np.array(_TINY, np.float32), f"{name}/tiny")
        (least,) = self.node("Add", [floor, tiny], f"{name}/least")
        (whole,) = self.node("Add", [energy, least], f"{name}/whole")
        (ratio,) = self.node("Div", [noise, whole], f"{name}/ratio")
        (output,) = self.node("ReduceMean", [ratio], f"{name}/relative", {"keepdims": 0})
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        self.graph.outputs.append(output)

    def _sum_over(self, axis: int, value: ir.Value, name: str) -> ir.Value:
        """Of squares."""
        if self.graph.opset_imports.get("", 0) < _REDUCE_AXES_INPUT:
            return self.node("ReduceSumSquare", [value], name, {"axes": [axis]})[0]
        axes = self.constant(np.array([axis], np.int64), f"{name}/axes")
        return self.node("ReduceSumSquare", [value, axes], name)[0]

    def output(self, value: ir.Value) -> None:
        """Hand ``value``, float32, out whole: one more array of `arrays`."""
        import onnx_ir as ir

        (output,) = self.node("Identity", [value], f"{value.name}/output")
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        self.graph.outputs.append(output)

    def shape_of(self, value: ir.Value) -> None:
        """Hand out the shape of ``value``, int64: one more array of `arrays`."""
        import onnx_ir as ir

        (output,) = self.node("Shape", [value], f"{value.name}/shape")
        output.type = ir.TensorType(ir.DataType.INT64)
        self.graph.outputs.append(output)

    def run(
        self,
        samples: Samples,
        spec: ModelSpec | None = None,
        *,
        what: str = "probe",
        max_samples: int | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """What `sum_of_squares` asked for, in that order: ``[samples, numbers]``.

        Args:
            max_samples: this many, spread over the set; by default as many as `WORK` allows.

        Raises:
            UserError: a sample does not fit the model.
        """
        given = self.arrays(samples, spec, what=what, max_samples=max_samples, progress=progress)
        return np.array(list(given), dtype=np.float64)

    def arrays(
        self,
        samples: Samples,
        spec: ModelSpec | None = None,
        *,
        what: str = "probe",
        max_samples: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[list[Array]]:
        """All that was asked for, in the order of asking, sample by sample; arguments as `run`."""
        names = [output.name or "" for output in self.graph.outputs]
        chosen = spread(samples, max_samples or self.affordable)
        session = self._session()
        feeds = checked_feeds(chosen, expected_inputs(self.graph, spec))
        for done, (_, feed) in enumerate(feeds, 1):
            yield session.run(names, feed)
            if progress:
                progress(what, done, len(chosen))

    def _session(self) -> Any:
        """No integer kernels: the error is the one that Q/DQ defines."""
        options = lean_options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return open_session(self._model, options)
