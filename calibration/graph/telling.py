"""Which numbers decide what a network puts out, and how a difference in them is to be judged.

An output is not always what can be compared: labels jump, lists of boxes change their order, a
probability near 0 hides how sure the network was. So each output is followed back:

* labels, to the logits that an ArgMax reads: probabilities over its axis;
* a Sigmoid, to its logits: chances, each by itself;
* a Softmax, to its logits as plain numbers;
* what a TopK or a suppression has picked, to the heads, the last weighted nodes before it: chances
  where their logits go through a Sigmoid on the way, plain numbers elsewhere. A position counts as
  much as it is likely to be picked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from calibration.graph.queries import (
    WEIGHTED,
    attribute,
    is_float,
    is_moving,
    readers,
    result_of,
)

if TYPE_CHECKING:
    import onnx_ir as ir

PICKING = frozenset(
    {"TopK", "NonMaxSuppression", "NonZero", "GatherElements", "GatherND", "Compress"}
)
"""What makes an output's order, or its length, depend on values."""


class Judged(Enum):
    """What a difference is measured in."""

    ENERGY = "energy"
    CLASSES = "overlap of class probabilities"
    CHANCES = "overlap of chances"


@dataclass(frozen=True)
class Telling:
    """Numbers to compare.

    Attributes:
        name: of the value.
        shape: of the value, None where a size is not known; empty where nothing is.
        axis: of the classes; None unless classes are judged.
        beside: names of the chances by which an output picks its positions, where they are maps of
            the same size ``[n, channels, h, w]``: what stands elsewhere is never read.
    """

    name: str
    shape: tuple[int | None, ...] = ()
    judged: Judged = Judged.ENERGY
    axis: int | None = None
    beside: tuple[str, ...] = ()


def telling_values(graph: ir.Graph) -> list[Telling]:
    """What decides the graph's outputs, each once, in their order.

    Empty where they come from inputs alone.
    """
    found: dict[str, Telling] = {}
    for output in graph.outputs:
        for told in _behind(output):
            found.setdefault(told.name, told)
    return list(found.values())


def _behind(value: ir.Value) -> list[Telling]:
    output, judged, axis = value, Judged.ENERGY, None
    while (maker := value.producer()) is not None:
        source = maker.inputs[0] if maker.inputs else None
        if source is None:
            break
        if maker.op_type == "ArgMax":
            judged, axis = Judged.CLASSES, int(attribute(maker, "axis", 0))
        elif maker.op_type == "Sigmoid" and judged is Judged.ENERGY:
            judged = Judged.CHANCES
        elif is_float(value) and maker.op_type != "Softmax":
            break
        value = source
    heads = _heads(output)
    if heads:
        return heads
    if value.producer() is None or not is_float(value):
        return []
    if axis is None:
        return [_told(value, judged)]
    rank = 0 if value.shape is None else len(value.shape)
    return [_told(value, judged, axis % rank) if rank else _told(value)]


def _told(value: ir.Value, judged: Judged = Judged.ENERGY, axis: int | None = None) -> Telling:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape or ())
    return Telling(value.name or "", shape, judged, axis)


def _heads(value: ir.Value) -> list[Telling]:
    """Of an output that was picked; none of others.

    A weighted node that works on what was picked already, as an overlap of boxes does, is no head.
    """
    waiting, picked = _last_weighted([value])
    found: dict[ir.Node, None] = {}
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        before, again = _last_weighted(node.inputs)
        if not again:
            found[node] = None
            continue
        picked = True
        waiting += [other for other in before if other not in seen]
        seen.update(before)
    heads = sorted(found, key=_order) if picked else []
    return _with_chances([_of_head(node) for node in heads])


def _last_weighted(values: Iterable[ir.Value | None]) -> tuple[list[ir.Node], bool]:
    """The weighted nodes that come last before ``values``, and whether any of those was picked."""
    found: dict[ir.Node, None] = {}
    picked = False
    waiting = [value for value in values if value is not None]
    seen = set(waiting)
    while waiting:
        maker = waiting.pop().producer()
        if maker is None:
            continue
        if maker.op_type in WEIGHTED:
            found[maker] = None
            continue
        picked = picked or maker.op_type in PICKING
        sources = [v for v in maker.inputs if v is not None and v not in seen]
        seen.update(sources)
        waiting += sources
    return list(found), picked


def _with_chances(heads: list[Telling]) -> list[Telling]:
    """Every head with the chances that are maps of the same size."""
    sizes = {told.name: _map_size(told.shape) for told in heads}
    chances = [told.name for told in heads if told.judged is Judged.CHANCES]
    return [
        replace(told, beside=tuple(name for name in chances if sizes[name] == size))
        if (size := sizes[told.name])
        else told
        for told in heads
    ]


def _map_size(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Of a map ``[n, channels, h, w]`` all but the channels; empty for other shapes."""
    return (shape[0], *shape[2:]) if len(shape) == 4 else ()


def _order(node: ir.Node) -> str:
    return node.name or ""


def _of_head(node: ir.Node) -> Telling:
    value = result_of(node)
    chances = any(reader.op_type == "Sigmoid" for reader in _next_but_moves(value))
    return _told(value, Judged.CHANCES if chances else Judged.ENERGY)


def _next_but_moves(value: ir.Value) -> Iterator[ir.Node]:
    """Nodes that read ``value``, moved or picked from but otherwise as it is."""
    for reader in readers(value):
        if (is_moving(reader) or reader.op_type in PICKING) and reader.inputs[0] is value:
            yield from _next_but_moves(reader.outputs[0])
        else:
            yield reader
