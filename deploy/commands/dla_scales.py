"""``edgeport dla-scales``: Q/DQ scales for a DLA that takes no Q/DQ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from deploy.dla import Written, write_dla_scales


def command(
    model: Annotated[Path, typer.Argument(help="INT8 model file with Q/DQ (.onnx).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Calibration cache to write.")],
    tensorrt: Annotated[
        str, typer.Option(help="TensorRT that will build; it reads its own caches only.")
    ] = "10.3.0",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Translate a Q/DQ file into what the DLA of TensorRT 8.x to 10.7 takes.

    Writes a calibration cache with the scale of each tensor and, beside it with the suffix .onnx,
    the network without Q/DQ. Tensors without a scale are listed. Example:

        edgeport dla-scales m.int8.onnx -o m.dla.cache

    Known limits: written from documentation, nobody here has a DLA. It rounds ties away from zero,
    Q/DQ to even, so single steps differ. TensorRT 10.8 to 11.3 have no DLA; 11.4.1 takes Q/DQ.
    """
    out = Output(json=as_json)
    written = write_dla_scales(model, output, tensorrt, overwrite=overwrite)
    _say(out, written)
    out.result(written.to_json())


def _say(out: Output, written: Written) -> None:
    found = written.scales
    out.say(
        f"{written.cache}: {len(found.scales)} scales, {len(found.followed)} of them from a "
        f"neighbour with the same values; {written.model}: the network without Q/DQ"
    )
    rows = [(m.tensor, m.node, m.op_type) for m in found.missing]
    if rows:
        out.table("Without a scale: in FP16, or on the GPU", ["tensor", "node", "operator"], rows)
    out.say(found.rounding)
    out.say(f"evidence: {found.evidence.value}; on the board: {written.build}")
