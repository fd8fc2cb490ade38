"""What follows a layer element by element: its activation, however it is written.

A runtime fuses Relu and Clip into a layer; HardSwish or a learned affine come as five or ten nodes.
What counts of a layer's error is what is left of it behind them: an error where the activation is
flat harms nobody, and a mean that such errors dominate must not be corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.graph.queries import constant
from calibration.observing.probe import Probe

if TYPE_CHECKING:
    import onnx_ir as ir

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
        "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu",
        "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
        "ThresholdedRelu",
    }
)  # fmt: skip
_LONGEST = 24


@dataclass(frozen=True)
class Activation:
    """Nodes behind a layer's output, in order; ``result`` is what they make of it.

    Without nodes ``result`` is the output itself.
    """

    source: ir.Value
    nodes: tuple[ir.Node, ...]
    result: ir.Value

    def copied(self, probe: Probe, value: ir.Value) -> ir.Value:
        """What the activation makes of ``value``, a stand-in for ``source``, in the probe."""
        made = {self.source.name: value}
        for node in self.nodes:
            twin = probe.nodes[node.name]
            changed = {
                slot: made[old.name]
                for slot, old in enumerate(twin.inputs)
                if old is not None and old.name in made
            }
            made[node.outputs[0].name] = probe.copy_of(twin, changed, f"{value.name}/{node.name}")
        return made[self.result.name]


def activation_behind(output: ir.Value) -> Activation:
    """The longest chain, branches included, that reads nothing but ``output`` and constants.

    It ends in one value that is all the rest of the graph reads of it.
    """
    region: list[ir.Node] = []
    values = {output}
    best = Activation(output, (), output)
    while len(region) < _LONGEST:
        node = _next(region, values)
        if node is None:
            return best
        region.append(node)
        values.add(node.outputs[0])
        if _is_only_exit(node.outputs[0], values, set(region)):
            best = Activation(output, tuple(region), node.outputs[0])
    return best


def _next(region: list[ir.Node], values: set[ir.Value]) -> ir.Node | None:
    for value in values:
        for use in value.uses():
            node = use.node
            if node not in region and node.op_type in ELEMENTWISE and len(node.outputs) == 1:
                known = (v is None or v in values or constant(v) is not None for v in node.inputs)
                if all(known):
                    return node
    return None


def _is_only_exit(end: ir.Value, values: set[ir.Value], region: set[ir.Node]) -> bool:
    inner = values - {end}
    used = all(use.node in region for value in inner for use in value.uses())
    return used and not any(value.is_graph_output() for value in inner)
