"""Every node that the parser refuses, although the parser stops at the first.

The refused node is cut out, its outputs become graph inputs of the same type and shape, and the
rest is parsed again, until the parser is content. Each verdict is therefore given by the real
parser on the node in its real surroundings, with its real constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.graphview import GraphView, all_nodes, describe
from runtimes.inlining import save

if TYPE_CHECKING:
    import onnx

MAX_REFUSALS = 40
"""Each one costs a parse of the whole model; past this many the list is called incomplete."""


@dataclass(frozen=True)
class Refusal:
    """What the parser said about a node; ``node`` is empty where it means the whole model."""

    node: str
    op_type: str
    message: str


Parse = Callable[[Path], list[Refusal]]
"""``parse(file)`` gives the parser's errors, none if it takes the file."""


@dataclass(frozen=True)
class Capability:
    """Refused nodes; ``complete`` is false where cutting had to stop before the end."""

    refusals: tuple[Refusal, ...]
    complete: bool


def refused_nodes(proto: onnx.ModelProto, path: Path, directory: Path, parse: Parse) -> Capability:
    """Ask ``parse`` again and again, cutting out what it refuses; ``path`` holds ``proto``."""
    found: list[Refusal] = []
    cut: onnx.ModelProto | None = None
    view = GraphView(proto)
    while len(found) < MAX_REFUSALS:
        errors = parse(path)
        if not errors:
            return Capability(tuple(found), complete=True)
        found.extend(errors)
        if cut is None:
            cut = type(proto)()
            cut.CopyFrom(proto)
        if not all(_cut_node(cut.graph, view, error) for error in errors):
            break
        path = save(cut, directory / "cut.onnx")
    return Capability(tuple(found), complete=False)


def _cut_node(graph: onnx.GraphProto, view: GraphView, refusal: Refusal) -> bool:
    """Replace the outermost node that holds the refused one by graph inputs, if types are known."""
    index = _outermost_index(graph, refusal)
    if index is None:
        return False
    outputs = [name for name in graph.node[index].output if name]
    types = {name: kind for name in outputs if (kind := view.value_type(name)) is not None}
    if len(types) < len(outputs):
        return False
    remaining = [value for value in graph.output if value.name not in types]
    if not remaining:
        return False
    del graph.node[index]
    del graph.output[:]
    graph.output.extend(remaining)
    for name, kind in types.items():
        graph.input.add(name=name).type.CopyFrom(kind)
    return True


def _outermost_index(graph: onnx.GraphProto, refusal: Refusal) -> int | None:
    for index, node in enumerate(graph.node):
        inner = [n for a in node.attribute for g in (a.g, *a.graphs) for n in all_nodes(g)]
        for candidate in (node, *inner):
            named = refusal.node in (candidate.name, describe(candidate))
            if named and candidate.op_type == refusal.op_type:
                return index
    return None
