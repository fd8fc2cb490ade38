"""``edgeport cast``: the float part of a model file to FP16 or BF16, or its INT8 part to FP8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.console import Output
from exporters.modelfile import ModelFile


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx), FP32 or INT8.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model file to write.")],
    to: Annotated[str, typer.Option(help="fp16 or bf16; fp8 in place of INT8.")] = "fp16",
    keep_float: Annotated[
        list[str] | None,
        typer.Option(help="Node, or prefix of nodes, that stays FP32; may be repeated."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Cast what a model file computes in FP32 to a 16-bit type, in the file itself.

    TensorRT 11 and TensorRT-RTX run what the file says. Inputs and outputs keep their types;
    nodes that 16 bits cannot hold stay FP32 and are listed with the reason. INT8 parts stay INT8.
    For example:

        edgeport cast m0.onnx --to fp16 -o m0.fp16.onnx

    With --to fp8 an INT8 file gets E4M3 where it has INT8, with the same ranges: for GPUs of
    compute capability 8.9 and newer. Weights are rounded from those of the INT8 file.

    Known limits: ONNX Runtime's CPU provider runs FP16 files, but not faster, and has no BF16
    convolutions. BF16 is refused for INT8 files: a scale needs more than 8 bits. What an
    activation reaches is unknown here: quantize --rest fp16 knows, and heeds it.
    """
    from calibration import cast

    out = Output(json=as_json)
    result = cast(model, output, to, tuple(keep_float or ()), overwrite=overwrite)
    _say(out, result.model, dict(result.report))
    out.result(
        {
            "path": str(result.model.path),
            "sha256": result.model.sha256,
            "size_bytes": result.model.size_bytes,
            **result.report,
        }
    )


def _say(out: Output, model: ModelFile, report: dict[str, Any]) -> None:
    nodes = sum(report["cast"].values())
    out.say(
        f"{model.path} ({model.size_bytes / 1e6:.1f} MB): {nodes} nodes in {report['to']}, "
        f"{report['casts']} casts inserted, opset {report['opset']}"
    )
    rows = [(i["node"], i["op_type"], i["reason"]) for i in report["kept_float"]]
    out.table("In FP32", ["node", "operator", "reason"], rows)
    if report["weights_to_zero"]:
        out.say(f"{report['weights_to_zero']:.2%} of the non-zero weights became zero")
    if report["note"]:
        out.say(report["note"])
    out.say(f"next: edgeport verify MODEL {model.path} --samples …")
