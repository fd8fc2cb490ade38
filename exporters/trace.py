"""torch to ONNX: trace a module and return a graph that is fit to be published.

PyTorch's exporter does the translation; this file decides what leaves the house:

* only ONNX operators, or functions of our own domain whose bodies the file carries;
* nodes named by the module they come from, ``img_backbone/layer1.0/conv1/Conv``;
* the opset and IR version that TensorRT from 8.6 on reads;
* no source paths, stack traces or clock times: the same module gives the same bytes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exporters import cleanup, witness
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import Tensor, nn

OPSET = 17
"""Safest for Q/DQ graphs across TensorRT 8.6 to 11; FP16 scales need 19 and INT4 needs 21."""

_TRACED_OPSET = 18  # what PyTorch's exporter implements natively


def trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    opset: int = OPSET,
    translations: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """The ONNX graph of ``module`` for inputs of exactly these shapes and dtypes.

    Args:
        module: in eval mode; its forward takes the values of ``inputs`` in order.
        inputs: graph input names and example values.
        outputs: graph output names.
        translations: torch operators of our own, and what writes their node into the graph.
        functions: the bodies of those nodes, which travel in the file.

    Raises:
        UserError: ``module`` uses something that has no ONNX form.
    """
    import onnx_ir as ir

    model = _translate(module, inputs, outputs, translations or {})
    cleanup.tidy(model, opset)
    cleanup.fill_at_run_time(model)
    cleanup.name_by_module(model)
    cleanup.strip(model)
    proto = ir.to_proto(model)
    proto.functions.extend(functions)
    require_known_operators(proto)
    return proto


def require_known_operators(proto: onnx.ModelProto) -> None:
    """Refuse operators that a stock runtime could not execute.

    Known are the operators of ONNX's own domain at the file's opset and functions that the file
    itself carries. A function must not share a name with an ONNX operator: TensorRT's parser
    would take the built-in one and silently ignore the body.

    Raises:
        UserError: names the operators and nodes.
    """
    import onnx

    opset = next((entry.version for entry in proto.opset_import if entry.domain in _ONNX), 0)
    functions = {(function.domain, function.name) for function in proto.functions}
    for domain, name in sorted(functions):
        if onnx.defs.has(name, ""):
            raise UserError(
                f"function {domain}::{name} has the name of an ONNX operator, "
                "which TensorRT would run in its place",
                fix="Rename the function",
            )
    unknown: dict[str, list[str]] = {}
    for node in _all_nodes(proto):
        if (node.domain, node.op_type) in functions:
            continue
        if node.domain not in _ONNX or not onnx.defs.has(node.op_type, opset, ""):
            operator = f"{node.domain or 'ai.onnx'}::{node.op_type}"
            unknown.setdefault(operator, []).append(node.name)
    if unknown:
        found = "; ".join(f"{op} ({', '.join(names[:3])})" for op, names in unknown.items())
        raise UserError(
            f"the graph has operators that are not in ONNX opset {opset}: {found}",
            fix="Express them in standard operators, or give them a function body in the file",
        )


_ONNX = ("", "ai.onnx")


def _all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of sub-graphs and function bodies included."""

    def walk(nodes: Any) -> Iterator[onnx.NodeProto]:
        for node in nodes:
            yield node
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    yield from walk(graph.node)

    yield from walk(proto.graph.node)
    for function in proto.functions:
        yield from walk(function.node)


def _translate(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    translations: Mapping[Callable[..., Any], Callable[..., Any]],
) -> ir.Model:
    import torch

    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=_TRACED_OPSET,
                external_data=False,
                custom_translation_table={**_own_translations(), **translations},
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            raise UserError(
                f"{type(module).__name__} has no ONNX form: {str(cause).strip().splitlines()[0]}",
                fix="Write that part with operators that torch.onnx supports",
            ) from error
    assert program is not None
    assert program.exported_program is not None
    witness.saw(module, program.exported_program, list(inputs), outputs)
    model: ir.Model = program.model
    return model


def _own_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Where PyTorch's own translation is longer than needed.

    ONNX Softplus is accurate for large inputs, so the threshold that PyTorch guards it with
    (x > 20 returns x, a difference below 2.1e-9) would only cost a comparison and a selection.
    """
    import torch
    from onnxscript import opset18 as op

    def softplus(self: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        if beta != 1.0 or threshold < 20.0:
            raise UserError(f"softplus with beta {beta}, threshold {threshold} has no translation")
        return op.Softplus(self)

    return {torch.ops.aten.softplus.default: softplus}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about its own dependencies (torchvision, pytree)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
