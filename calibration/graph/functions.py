"""Functions that hold weighted nodes are written out, so that they can be quantized too.

A call hides the nodes inside it, and runtimes inline it anyway. Functions of edgeport's own domain
stay: a runtime may replace them by a kernel as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.graph.queries import WEIGHTED
from exporters.errors import UserError
from exporters.external import MESSAGE_LIMIT_BYTES, payload_bytes

if TYPE_CHECKING:
    import onnx

OWN_DOMAIN = "edgeport"


def inline_weighted(proto: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, list[str]]:
    """``proto`` with those functions written out, and their names; itself where there are none.

    Raises:
        UserError: the model is too large for ONNX's inliner.
    """
    import onnx.inliner

    weighted = _weighted_functions(proto)
    if not weighted:
        return proto, []
    if payload_bytes(proto) > MESSAGE_LIMIT_BYTES:
        raise UserError(
            f"{name} has weights in functions ({weighted[0][1]}) and more than 2 GB, which ONNX's "
            "inliner cannot take",
            fix="Export it without functions",
        )
    plain = onnx.inliner.inline_selected_functions(proto, weighted, exclude=False)
    return plain, [f"{domain}::{function}" for domain, function in weighted]


def _weighted_functions(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """Functions with a weighted node in them, or in a function that they call."""
    found: set[tuple[str, str]] = set()
    while True:
        more = {
            (function.domain, function.name)
            for function in proto.functions
            if function.domain != OWN_DOMAIN and any(_weighs(n, found) for n in function.node)
        }
        if more == found:
            return sorted(found)
        found = more


def _weighs(node: onnx.NodeProto, functions: set[tuple[str, str]]) -> bool:
    if (node.domain, node.op_type) in functions:
        return True
    if node.op_type in WEIGHTED and node.domain in ("", "ai.onnx"):
        return True
    graphs = [a.g for a in node.attribute if a.HasField("g")]
    return any(_weighs(inner, functions) for graph in graphs for inner in graph.node)
