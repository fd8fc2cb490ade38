"""Turn what a model computes in FP32 into FP16 or BF16, in the file itself.

Strongly typed runtimes (TensorRT 11 and RTX, TensorRT 10 on request) run what the file says: a node
in FP32 costs FP32. Every float node gets 16-bit inputs, weights and outputs, with casts where one
has to stay FP32 (``calibration.precision.rules`` says which and why). The types of graph inputs and
outputs stay, so callers notice nothing. INT8 parts stay INT8; their scales become FP16, which needs
opset 19.

    FP16:  any opset; Q/DQ raise it to 19            runs in ONNX Runtime
    BF16:  opset 22, the first with BF16 convolutions; no Q/DQ, 8 bits are too few for a scale;
           ONNX Runtime's CPU provider has no kernels for it, TensorRT builds it
    FP8:   of an INT8 file its INT8 part (``calibration.precision.fp8``); the rest stays
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.opsets import opset_of, with_opset
from calibration.graph.prepare import canonical
from calibration.graph.queries import constant
from calibration.precision.fp8 import NOTE, to_fp8
from calibration.precision.retype import retype
from calibration.precision.rules import Target, float_nodes
from calibration.qdq.placement import FloatRules
from exporters.errors import UserError, did_you_mean
from exporters.files import require_writable
from exporters.modelfile import PREFIX, ModelFile, canonical_json, read_spec, save_model

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

TARGETS = {
    "fp16": Target("fp16", opset=13, quantized=True),
    "bf16": Target("bf16", opset=22, quantized=False),
}
FP8 = "fp8"
QUANTIZED_OPSET = 19  # Q/DQ take FP16 scales since then

NOTES = {
    "fp16": "",
    "bf16": "ONNX Runtime's CPU provider cannot run BF16; build it with TensorRT",
}


@dataclass(frozen=True)
class CastResult:
    """A cast model file.

    Attributes:
        report: JSON: ``to``, ``opset``, operators ``cast`` by type, ``kept_float`` nodes with
            reasons, number of ``casts`` inserted, share of weights that became zero.
    """

    model: ModelFile
    report: Mapping[str, Any]


def cast(
    model: ModelFile | Path | str,
    output: Path | str,
    to: str = "fp16",
    keep_float: tuple[str, ...] = (),
    *,
    overwrite: bool = False,
) -> CastResult:
    """Write ``model`` with its float part in ``to``.

    Args:
        to: ``fp16`` or ``bf16``; or ``fp8``, which takes the place of INT8.
        keep_float: node names, or prefixes of them, that stay FP32.

    Raises:
        UserError: unknown type or node, no float left to cast, INT8 with BF16, FP8 without INT8,
            ``output`` exists.
    """
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    output = Path(output)
    require_writable(output, overwrite=overwrite)
    if to == FP8:
        proto, report = _to_fp8(file, keep_float)
    else:
        proto, report = cast_proto(file.proto, to=to, keep_float=keep_float, name=str(file.path))
    proto.metadata_props.add(key=PREFIX + "cast", value=canonical_json(report))
    return CastResult(save_model(proto, output, overwrite=overwrite), report)


def _to_fp8(file: ModelFile, keep_float: tuple[str, ...]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    if keep_float:
        raise UserError(
            "FP8 takes the places of INT8, and none is chosen here",
            fix="Choose what stays float where it is chosen: edgeport quantize --keep-float",
        )
    proto, count = to_fp8(file.proto, str(file.path))
    opset = opset_of(proto)
    return proto, {
        "to": FP8,
        "opset": opset,
        "cast": {"Q/DQ": count},
        "kept_float": [],
        "casts": 0,
        "weights_to_zero": 0.0,
        "note": NOTE,
    }


def cast_proto(
    proto: onnx.ModelProto,
    *,
    to: str,
    keep_float: tuple[str, ...] = (),
    largest: Mapping[str, float] | None = None,
    name: str = "the model",
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """``cast`` without files; ``proto`` is left alone.

    Args:
        largest: largest magnitude seen of tensors, by name; what FP16 cannot hold stays FP32.
    """
    import onnx_ir as ir

    if to not in TARGETS:
        raise UserError(f"cannot cast to {to!r}", fix=did_you_mean(to, (*TARGETS, FP8)))
    target = TARGETS[to]
    model = canonical(with_opset(proto, *_opsets(proto, target, name)))
    graph = model.graph
    spec = read_spec(proto)
    rules = FloatRules(declared=spec.keep_fp32 if spec else {}, asked=keep_float)
    rules.check(node.name or "" for node in graph)
    kept = float_nodes(
        graph, target, rules.reasons(node.name or "" for node in graph), largest or {}
    )
    vanished = _vanished_share(graph, target)
    done, casts = retype(model, target, kept)
    if not done:
        raise UserError(f"{name} holds nothing in FP32 to cast", fix="Cast the FP32 model instead")
    return ir.to_proto(model), {
        "to": to,
        "opset": graph.opset_imports.get("", 0),
        "cast": dict(sorted(Counter(node.op_type for node in done).items())),
        "kept_float": [
            {"node": node.name, "op_type": node.op_type, "reason": reason}
            for node, reason in kept.items()
            if _touches_float(node)
        ],
        "casts": casts,
        "weights_to_zero": vanished,
        "note": NOTES[to],
    }


def _opsets(proto: onnx.ModelProto, target: Target, name: str) -> tuple[int, int]:
    """Opset that is needed, and the one to raise an older file to."""
    quantized = next(
        (n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")), None
    )
    if quantized is None:
        return target.opset, max(target.opset, 17)
    if not target.quantized:
        raise UserError(
            f"{name} is quantized (node {quantized.name!r}): {target.name} scales are too coarse",
            fix="Cast it to fp16, or cast the FP32 model",
        )
    return QUANTIZED_OPSET, QUANTIZED_OPSET


def _touches_float(node: ir.Node) -> bool:
    values = [*node.inputs, *node.outputs]
    return any(v is not None and v.dtype is not None and v.dtype.name == "FLOAT" for v in values)


def _vanished_share(graph: ir.Graph, target: Target) -> float:
    """Share of the non-zero FP32 constants that are zero in FP16."""
    if target.name != "fp16":
        return 0.0
    arrays = [constant(value) for value in graph.initializers.values()]
    floats = [a for a in arrays if a is not None and a.dtype == np.float32 and a.size]
    nonzero = sum(int(np.count_nonzero(a)) for a in floats)
    # below half of the smallest FP16 number everything rounds to zero
    left = sum(int(np.count_nonzero(np.abs(a) > 2.0**-25)) for a in floats)
    return round((nonzero - left) / max(nonzero, 1), 6)
