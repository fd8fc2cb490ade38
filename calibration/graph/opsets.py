"""Raising a file to the opset that a stage needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx

MIN_OPSET = 13  # DequantizeLinear has an axis since then
RAISED_OPSET = 17  # what an older file is raised to: the safest across TensorRT 8.6 to 11
INT4_OPSET = 21  # 4-bit types and blocks came with it

_IR_VERSIONS = ((21, 10), (19, 9), (15, 8))
"""First opset to the IR version that its release came with."""


def opset_of(proto: onnx.ModelProto) -> int:
    """Of the default domain; 1 where the file does not say."""
    return next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)


def with_opset(
    proto: onnx.ModelProto, minimum: int, wanted: int, name: str = "the model"
) -> onnx.ModelProto:
    """``proto`` itself if its default opset is at least ``minimum``, else raised to ``wanted``.

    Raises:
        UserError: ONNX's converter knows no way for one of the operators.
    """
    import onnx
    from onnx import version_converter

    from exporters.external import MESSAGE_LIMIT_BYTES, payload_bytes

    opset = opset_of(proto)
    if opset >= minimum:
        return proto
    why = "ONNX's converter takes no model above 2 GB"
    if payload_bytes(proto) <= MESSAGE_LIMIT_BYTES:
        try:
            converted = version_converter.convert_version(proto, wanted)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            # "FILE.h:66: … Assertion `false` failed: No Adapter From Version …"
            why = (str(error).strip().splitlines() or [repr(error)])[0].split(" failed: ")[-1]
        else:
            if not converted.metadata_props:  # older converters drop the self-description
                converted.metadata_props.extend(proto.metadata_props)
            converted.ir_version = max(converted.ir_version, ir_version_for(wanted))
            if not converted.functions:  # the converter drops them
                converted.functions.extend(_raised(f, wanted, name) for f in proto.functions)
            return converted
    raise UserError(
        f"{name} has opset {opset} and cannot be raised to {wanted}: {why}",
        fix=f"Export it with opset {wanted} or later",
    )


def _raised(function: onnx.FunctionProto, opset: int, name: str) -> onnx.FunctionProto:
    """The function for a later opset, where its operators are written alike in both.

    Raises:
        UserError: one is not; names it.
    """
    import onnx

    for node in function.node:
        if node.domain:
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        known = all(attribute.name in schema.attributes for attribute in node.attribute)
        if not known or not schema.min_input <= len(node.input) <= schema.max_input:
            raise UserError(
                f"{name}: {node.op_type} in function {function.name} has another form in opset "
                f"{opset}",
                fix=f"Export it with opset {opset} or later",
            )
    copy = type(function)()
    copy.CopyFrom(function)
    for entry in copy.opset_import:
        if not entry.domain:
            entry.version = opset
    return copy


def ir_version_for(opset: int) -> int:
    """The least IR version that a file of ``opset`` should say it has."""
    return next((version for first, version in _IR_VERSIONS if opset >= first), 7)
