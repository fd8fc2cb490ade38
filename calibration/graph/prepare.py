"""The canonical form that placement works on; names of nodes and tensors stay what they were.

Constants become initializers, constant chains into weights are evaluated, batch normalisation is
folded into the weighted node before it, functions with weights are written out, every node has a
name, shapes are inferred, and the opset knows per-channel scales (13). What edgeport exports is in
this form already; files from elsewhere often are not. `changes_of` says what was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.graph.acceptance import require_quantizable, require_valid
from calibration.graph.affine import fold_affine
from calibration.graph.batch_norms import fold_batch_norms
from calibration.graph.constants import evaluate_parameters, lift_constants
from calibration.graph.functions import inline_weighted
from calibration.graph.hard_swish import add_floors, spell_hard_swish
from calibration.graph.opsets import MIN_OPSET, RAISED_OPSET, ir_version_for, opset_of, with_opset
from calibration.graph.queries import constant, fresh_name
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_CHANGES = "edgeport.changes"


def prepare(
    proto: onnx.ModelProto,
    name: str = "the model",
    *,
    opset: int = RAISED_OPSET,
    floors: bool = False,
) -> ir.Model:
    """The canonical form of ``proto``, which is left alone.

    Args:
        opset: raise the file to at least this; one above 17 must be reached.
        floors: bound what activations make nothing of, for choosing ranges; see `add_floors`.

    Raises:
        UserError: the file is quantized already, computes in FP16, has nothing to quantize, or is
            no valid ONNX graph.
    """
    require_valid(proto, name)
    plain, functions = inline_weighted(proto, name)
    changes = [f"function {function} written out" for function in functions]
    plain, raised = _raised(plain, name, opset)
    changes += raised
    model = canonical(plain)
    graph = model.graph
    changes += _drop_defaults(model)
    require_quantizable(graph, name)
    evaluated = evaluate_parameters(graph)
    changes += [f"{evaluated} weights evaluated from constants"] if evaluated else []
    folded = fold_batch_norms(graph)
    changes += [f"{folded} batch norms folded"] if folded else []
    gates = spell_hard_swish(graph)
    changes += [f"{gates} HardSwish spelled as HardSigmoid and Mul"] if gates else []
    gains = fold_affine(graph)
    changes += [f"{gains} gains and shifts folded into convolutions"] if gains else []
    _drop_unused(graph)
    for node in graph:
        _set_kernel_shape(node)
    infer_shapes(model)
    if floors:
        add_floors(graph)
    model.meta[_CHANGES] = changes
    return model


def changes_of(model: ir.Model) -> list[str]:
    """What `prepare` did to the file beyond naming and shape inference, in words."""
    return list(model.meta.get(_CHANGES, []))


def add_change(model: ir.Model, words: str) -> None:
    """Something else was done to a prepared model, which `changes_of` has to tell."""
    model.meta[_CHANGES] = [*changes_of(model), words]


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """``proto`` with constants as initializers, names on all nodes, and shapes; nothing folded."""
    import onnx_ir as ir

    model = ir.from_proto(proto)
    _free_negative_axes(model.graph)
    lift_constants(model.graph)
    _name_nodes(model.graph)
    infer_shapes(model)
    return model


def infer_shapes(model: ir.Model) -> None:
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass(data_prop=True)(model)


def is_io(value: ir.Value) -> bool:
    return bool(value.is_graph_input() or value.is_graph_output())


def _raised(proto: onnx.ModelProto, name: str, opset: int) -> tuple[onnx.ModelProto, list[str]]:
    """Raised to ``opset``; to 17 an older file must be, one from 13 on is where it can."""
    before = opset_of(proto)
    try:
        raised = with_opset(proto, opset, opset, name)
    except UserError:
        if before < MIN_OPSET or opset > RAISED_OPSET:
            raise
        return proto, []
    return raised, [f"opset {before} raised to {opset}"] if raised is not proto else []


def _free_negative_axes(graph: ir.Graph) -> None:
    """Some exporters write -1 for an axis of any size; ONNX leaves it unset."""
    import onnx_ir as ir

    values = [*graph.inputs, *graph.outputs, *(v for node in graph for v in node.outputs)]
    for value in values:
        sizes = [] if value.shape is None else list(value.shape)
        if any(isinstance(size, int) and size < 0 for size in sizes):
            value.shape = ir.Shape(
                None if isinstance(size, int) and size < 0 else size for size in sizes
            )


def _name_nodes(graph: ir.Graph) -> None:
    """Bodies included: names are unique in the whole model."""
    nodes = list(graph.all_nodes())
    taken = {node.name for node in nodes if node.name}
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name or node.name in seen:
            node.name = fresh_name(taken, f"{node.op_type}_{index}")
        seen.add(node.name)


def _drop_defaults(model: ir.Model) -> list[str]:
    """Initializers that are inputs too (IR version 3, or a default) become plain constants."""
    graph = model.graph
    defaults = [v for v in graph.inputs if v.name in graph.initializers]
    for value in defaults:
        graph.inputs.remove(value)
    model.ir_version = max(model.ir_version or 0, ir_version_for(graph.opset_imports.get("", 1)))
    if not defaults:
        return []
    return [f"{len(defaults)} inputs that have a value in the file made constants"]


def _drop_unused(graph: ir.Graph) -> None:
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not is_io(v)]:
        del graph.initializers[name]


def _set_kernel_shape(node: ir.Node) -> None:
    """TensorRT reads the kernel's size from the attribute where weights come through Q/DQ."""
    import onnx_ir as ir

    if node.op_type in ("Conv", "ConvTranspose") and "kernel_shape" not in node.attributes:
        weight = constant(node.inputs[1])
        if weight is not None:
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", weight.shape[2:])
