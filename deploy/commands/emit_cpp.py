"""``edgeport emit-cpp``: a C++ program around a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from deploy.cpp import emit_cpp


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    rig: Annotated[
        Path | None,
        typer.Option(help="Cameras, for a model whose geometry tables are inputs."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write C++17 that runs a model file in ONNX Runtime and its engine in TensorRT.

    model.hpp has the names, types and shapes of inputs, outputs and state, the classes and the
    geometry; the loaders check a file or an engine against it, keep the buffers and roll the state
    from frame to frame. main_*.cpp runs frames from folders of raw tensors. Example:

        edgeport emit-cpp m0.int8.onnx -o consumer/

        cmake -S consumer -B build -DONNXRUNTIME_DIR=/opt/onnxruntime && cmake --build build

    Known limits: fixed shapes only. Images are taken as the network wants them: decoding and
    resizing are yours. The ONNX Runtime loader is compiled and run by the tests. The TensorRT
    loader was compiled against the headers of 10.0, 10.3, 10.16 and 11.1 and has run nowhere.
    """
    out = Output(json=as_json)
    written = emit_cpp(model, output, rig=rig, overwrite=overwrite)
    out.say(f"wrote {', '.join(written.files)} to {written.directory}")
    if written.tables:
        out.say(f"tables of the rig: {', '.join(written.tables)}; copy them to the first frame")
    out.result({"directory": written.directory, "files": written.files, "tables": written.tables})
