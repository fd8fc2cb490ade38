"""An INT8 file with FP8 (E4M3) in place of INT8: the same places, the same ranges.

    INT8:  x ~ s * round(x / s),             |x| <= 127 s
    FP8:   x ~ t * e4m3(x / t),  t = 127 s / 448,  |x| <= 448 t = 127 s

E4M3 (Micikevicius et al., FP8 Formats for Deep Learning, arXiv 2209.05433) has 3 bits of mantissa
and no infinities; 448 is its largest number. Numbers near the end of the range are coarser than in
INT8, small ones finer. Weights are rounded from the INT8 file's, not from the network's. Q/DQ take
the type since opset 19; engines need compute capability 8.9, and ONNX Runtime runs it in float.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.opsets import with_opset
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx

OPSET = 19
LARGEST = 448.0
NOTE = "ONNX Runtime computes it in float32; FP8 engines need compute capability 8.9 or newer"
_INT8_LARGEST = 127.0
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def to_fp8(proto: onnx.ModelProto, name: str = "the model") -> tuple[onnx.ModelProto, int]:
    """``proto`` with every INT8 pair in E4M3, and how many tensors that are; ``proto`` stays.

    Raises:
        UserError: nothing is quantized, a zero point is not 0, or an operator works on integers.
    """
    import onnx

    raised = with_opset(proto, OPSET, OPSET, name)
    made = onnx.ModelProto()
    made.CopyFrom(raised)
    graph = made.graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    pairs = [n for n in graph.node if n.op_type in _PAIR and _is_int8(n, arrays, name)]
    if not pairs:
        raise UserError(
            f"{name} has nothing in INT8", fix="Quantize it first: edgeport quantize MODEL …"
        )
    _refuse_integer_operators(graph, pairs, name)
    editor = _Editor(graph, arrays)
    for node in pairs:
        editor.change(node)
    editor.finish()
    narrow = [v for v in graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.INT8]
    for value in narrow:
        graph.value_info.remove(value)
    return made, len(pairs)


class _Editor:
    """Gives nodes their scale, zero point and weights in the new type; shared ones stay shared."""

    def __init__(self, graph: onnx.GraphProto, arrays: dict[str, NDArray[Any]]) -> None:
        self._graph = graph
        self._arrays = arrays
        self._made: dict[str, NDArray[Any]] = {}

    def change(self, node: onnx.NodeProto) -> None:
        weights = node.input[0]
        if weights in self._arrays:
            node.input[0] = self._as(weights, lambda w: w * (LARGEST / _INT8_LARGEST), narrow=True)
        node.input[1] = self._as(node.input[1], lambda s: s * (_INT8_LARGEST / LARGEST))
        node.input[2] = self._as(node.input[2], np.zeros_like, narrow=True)

    def _as(
        self, name: str, rule: Callable[[NDArray[Any]], NDArray[Any]], *, narrow: bool = False
    ) -> str:
        import ml_dtypes

        new = f"{name}.fp8"
        if new not in self._made:
            array = self._arrays[name]
            values = rule(array.astype(np.float64))
            self._made[new] = values.astype(ml_dtypes.float8_e4m3fn if narrow else array.dtype)
        return new

    def finish(self) -> None:
        """Write what was made and remove what nobody reads any more."""
        import onnx

        for name, array in self._made.items():
            self._graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        read = {name for node in self._graph.node for name in node.input}
        read |= {value.name for value in self._graph.output}
        for tensor in [t for t in self._graph.initializer if t.name not in read]:
            self._graph.initializer.remove(tensor)


def _is_int8(node: onnx.NodeProto, arrays: dict[str, NDArray[Any]], name: str) -> bool:
    """Whether a pair's node is INT8 as TensorRT takes it; other widths are left as they are.

    Raises:
        UserError: it has a zero point that is not 0.
    """
    zero = arrays.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.dtype not in (np.int8, np.uint8):
        return False
    if zero.dtype != np.int8 or np.any(zero):
        raise UserError(
            f"{name}: {node.name or node.output[0]!r} has a zero point, and E4M3 knows none",
            fix="Quantize with --policy tensorrt, which is symmetric",
        )
    return True


def _refuse_integer_operators(
    graph: onnx.GraphProto, pairs: list[onnx.NodeProto], name: str
) -> None:
    integers = {node.output[0] for node in pairs if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type not in _PAIR and integers.intersection(node.input):
            raise UserError(
                f"{name}: {node.name or node.op_type!r} works on INT8 numbers themselves",
                fix="Quantize with --policy tensorrt, whose pairs stand side by side",
            )
