"""Where Q/DQ go, as data: what a policy decides and ``calibration.qdq.insertion`` carries out.

A policy reads the graph and says which tensors are quantized for which readers, which tensors must
share a scale, which weights become int8, and which nodes stay in float and why. Nothing here knows
a number; ranges come later, from statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from calibration.graph.queries import Weighted
from calibration.qdq.rereading import Rereading
from calibration.scales.methods import IntegerForm
from exporters.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass
class QuantizedTensor:
    """One Q/DQ pair behind a tensor.

    Attributes:
        readers: ``(node, input slot)`` that get the dequantized tensor.
        whole: every other reader gets it too; set where the producer runs in integers, so that no
            float version exists.
    """

    value: ir.Value
    readers: set[tuple[ir.Node, int]] = field(default_factory=set)
    whole: bool = False


@dataclass(frozen=True)
class LeftFloat:
    """A node that is not quantized, and why."""

    node: str
    op_type: str
    reason: str


@dataclass
class Placement:
    """What a policy wants.

    Attributes:
        tensors: quantized activations, by value.
        weighted: nodes whose weights become int8.
        left: every node that stays in float although it computes, in graph order.
        rereadings: quantized tensors that are the integers of another one, read in another way.
    """

    tensors: dict[ir.Value, QuantizedTensor] = field(default_factory=dict)
    weighted: list[Weighted] = field(default_factory=list)
    left: list[LeftFloat] = field(default_factory=list)
    rereadings: dict[ir.Value, Rereading] = field(default_factory=dict)
    _parents: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def quantize(self, value: ir.Value, node: ir.Node, slot: int) -> bool:
        """Let ``node`` read ``value`` dequantized; returns whether that is new."""
        tensor = self.tensors.setdefault(value, QuantizedTensor(value))
        new = (node, slot) not in tensor.readers
        tensor.readers.add((node, slot))
        return new

    def quantize_whole(self, value: ir.Value) -> None:
        self.tensors.setdefault(value, QuantizedTensor(value)).whole = True

    def reads(self, node: ir.Node, slot: int) -> bool:
        """Whether ``node`` gets this input dequantized."""
        value = node.inputs[slot]
        tensor = None if value is None else self.tensors.get(value)
        return tensor is not None and (tensor.whole or (node, slot) in tensor.readers)

    def share_scale(self, values: Iterable[ir.Value]) -> None:
        """Put ``values`` into one group with one scale."""
        first, *rest = values
        for value in rest:
            self._parents[self._root(value)] = self._root(first)

    def groups(self) -> list[list[ir.Value]]:
        """Quantized tensors that share a scale, each list in order of placement."""
        found: dict[ir.Value, list[ir.Value]] = {}
        for value in self.tensors:
            found.setdefault(self._root(value), []).append(value)
        return list(found.values())

    def _root(self, value: ir.Value) -> ir.Value:
        while value in self._parents and self._parents[value] is not value:
            value = self._parents[value]
        return value


class Policy(Protocol):
    """How one runtime wants its Q/DQ.

    Attributes:
        form: integers that activations become.
        integer_bias: biases become int32 with the scale of the accumulator.
        integer_results: convolutions hand on integers, so both branches of a split are rounded.
    """

    name: str
    form: IntegerForm
    integer_bias: bool
    integer_results: bool

    def require(self, graph: ir.Graph, name: str) -> None:
        """Refuse what the runtime could not load.

        Raises:
            UserError: names the node.
        """
        ...

    def place(self, graph: ir.Graph, floats: FloatRules) -> Placement: ...

    def finish(self, graph: ir.Graph) -> list[dict[str, Any]]:
        """Last touches to the quantized graph; one ``{"node", "op_type", "reason"}`` each."""
        ...


@dataclass(frozen=True)
class FloatRules:
    """Which nodes stay in float because somebody said so.

    Attributes:
        declared: node name prefix to reason, from the model file; ``also`` lifts some of them.
        asked: node names, or prefixes, from the caller.
        given: node name to the reason why a budget gave it back.
    """

    declared: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)

    def check(self, names: Iterable[str]) -> None:
        """Refuse names that match nothing.

        Raises:
            UserError: with the nearest name that exists.
        """
        known = list(names)
        for option, wanted in (("keep-float", self.asked), ("quantize-also", self.also)):
            for name in wanted:
                if not any(_matches(name, node, known) for node in known):
                    raise UserError(
                        f"--{option} {name!r} matches no node", fix=did_you_mean(name, known)
                    )

    def reasons(self, names: Iterable[str]) -> dict[str, str]:
        """Node name to the reason why it stays in float."""
        known = list(names)
        found: dict[str, str] = {}
        for node in known:
            for prefix, reason in self.declared.items():
                lifted = any(_matches(name, node, known) for name in self.also)
                if node.startswith(prefix) and not lifted:
                    found[node] = reason
            if any(_matches(name, node, known) for name in self.asked):
                found[node] = "asked for with --keep-float"
        return {**{node: self.given[node] for node in known if node in self.given}, **found}


def _matches(wanted: str, node: str, known: list[str]) -> bool:
    """A full name means that node alone (``Conv_1`` is not ``Conv_10``), else it is a prefix."""
    return node == wanted if wanted in known else node.startswith(wanted)
