"""Weights as integers, activations as they are: what runtimes take 4-bit weights for.

TensorRT-RTX 1.7 builds INT4 weights of convolutions and matrix products with float activations, and
refuses a convolution that has INT4 weights and INT8 activations. ONNX Runtime has a kernel for
INT4 weights of a MatMul (MatMulNBits, behind float activations) and unpacks all others into float
in every run. So no Q/DQ stand on activations here, whichever runtime is meant, and
every weighted node can take part: there is no integer kernel that would have to exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration.qdq.placement import FloatRules, Placement, Policy
from calibration.qdq.policies.common import account, pick_weighted
from calibration.scales.methods import IntegerForm

if TYPE_CHECKING:
    import onnx_ir as ir


class WeightOnlyPolicy:
    """See the module docstring.

    Args:
        runtime: whose name it bears, and whose refusals hold.
    """

    integer_bias = False
    integer_results = False

    def __init__(self, runtime: Policy) -> None:
        self._runtime = runtime
        self.name = runtime.name
        self.form: IntegerForm = runtime.form

    def require(self, graph: ir.Graph, name: str) -> None:
        self._runtime.require(graph, name)

    def place(self, graph: ir.Graph, floats: FloatRules) -> Placement:
        kept = floats.reasons(node.name or "" for node in graph)
        chosen, reasons = pick_weighted(graph, kept, lambda _: None)
        left = account(graph, reasons, kept, set(chosen), lambda _: "only weights are quantized")
        return Placement(weighted=list(chosen.values()), left=left)

    def finish(self, graph: ir.Graph) -> list[dict[str, Any]]:  # noqa: ARG002
        return []
