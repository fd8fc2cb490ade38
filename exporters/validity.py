"""ONNX's checker, asked before anything is written.

It demands a shape of every input and output, which no runtime does. Files from elsewhere may lack
it, where a result is known to their own runtime only; for the check it is made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def check_graph(proto: onnx.ModelProto) -> None:
    """Of a model that fits into one message.

    Raises:
        onnx.checker.ValidationError: the graph is invalid.
    """
    import onnx

    with _shapes(proto):
        onnx.checker.check_model(proto, full_check=False)


def write_checked(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model whose weights lie in other files, which only a file can be checked with.

    Raises:
        onnx.checker.ValidationError: the graph is invalid.
    """
    import onnx

    with _shapes(proto):
        path.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path))
    path.write_bytes(proto.SerializeToString(deterministic=True))


@contextmanager
def _shapes(proto: onnx.ModelProto) -> Iterator[None]:
    """Within the block inputs and outputs have a shape, of rank 0 where there was none."""
    bare = [
        value.type.tensor_type
        for value in (*proto.graph.input, *proto.graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for tensor_type in bare:
        tensor_type.shape.SetInParent()
    try:
        yield
    finally:
        for tensor_type in bare:
            tensor_type.ClearField("shape")
