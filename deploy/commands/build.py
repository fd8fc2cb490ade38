"""``edgeport build``: from a model file to an engine with its passport."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from runtimes.base import BuildOptions, Engine


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Engine file to write.")],
    runtime: Annotated[str, typer.Option("--runtime", help="Who builds.")] = "tensorrt",
    target: Annotated[
        str | None,
        typer.Option("--target", help="Device and software; `edgeport doctor` lists them."),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="GPU to build for, like 8.9; may be repeated. TensorRT-RTX only."),
    ] = None,
    workspace_mib: Annotated[
        int | None, typer.Option(min=1, help="Memory the builder may plan with.")
    ] = None,
    min_shapes: Annotated[
        str, typer.Option(help="Smallest input shapes, NAME:SIZExSIZE,NAME:...")
    ] = "",
    opt_shapes: Annotated[
        str, typer.Option(help="Shapes to be fastest at; alone: the shapes.")
    ] = "",
    max_shapes: Annotated[str, typer.Option(help="Largest input shapes.")] = "",
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="Kernel times of earlier builds: read, extended, written back."),
    ] = None,
    strict_timing_cache: Annotated[
        bool, typer.Option("--strict-timing-cache", help="A kernel that is not in it is an error.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="An engine without weights, to be refitted.")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="An engine whose weights can be exchanged.")
    ] = False,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0: fast build, 5: fast engine.")
    ] = None,
    layer_details: Annotated[
        bool, typer.Option("--layer-details", help="Keep what `inspect --layers` reads.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which the build is stopped.")
    ] = 3600.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the engine and its passport.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport as JSON.")] = False,
) -> None:
    """Build an engine, in a child process, with a passport beside it.

    TensorRT-RTX builds on any x86-64 CPU, without a GPU; without --target and
    --compute-capability its engine is portable (compute capability 8.0, 8.6, 8.9, 12.0 and
    later). TensorRT 10 and 11 build on the device they are for. What is not quantized runs in
    the type that the file says. Example:

        edgeport build m.int8.onnx --runtime tensorrt --target rtx-ada/trt-rtx1.7 -o m.engine

    An input with dynamic axes needs its range, in trtexec's words:

        edgeport build m.onnx -o m.engine --min-shapes x:1x9 --opt-shapes x:4x9 --max-shapes x:8x9

    Known limits: one profile of shapes an engine; no plugins; no DLA (`edgeport dla-scales`).
    TensorRT-RTX has no timing cache, and strips or refits weights with a GPU only. An engine that
    was built has not been run: its evidence is `built`.
    """
    from runtimes import build
    from runtimes.passport import to_json
    from runtimes.shapes import shape_ranges

    out = Output(json=as_json)
    options = BuildOptions(
        target=target,
        compute_capabilities=tuple(compute_capability or ()),
        workspace_mib=workspace_mib,
        shapes=shape_ranges(min_shapes, opt_shapes, max_shapes),
        timing_cache=timing_cache,
        strict_timing_cache=strict_timing_cache,
        strip_weights=strip_weights,
        refit=refit,
        optimization_level=optimization_level,
        layer_details=layer_details,
        timeout_s=timeout,
        overwrite=overwrite,
    )
    with out.progress(f"Build {output.name}") as progress:
        engine = build(model, output, runtime, options, progress)
    _show(out, engine)
    out.result({"path": engine.path, **to_json(engine.passport)})


def _show(out: Output, engine: Engine) -> None:
    passport = engine.passport
    for_what = ", ".join(passport.compute_capabilities) or "the builder's default"
    out.say(
        f"{engine.path}  {passport.size_bytes / 2**20:.1f} MiB, built in {passport.build_s:.1f} s"
    )
    out.say(f"by {passport.runtime} {passport.runtime_version} for compute capability {for_what}")
    for name, shape in passport.options.get("shapes", {}).items():
        ends = " .. ".join("x".join(map(str, shape[end])) for end in ("min", "opt", "max"))
        out.say(f"input {name}: {ends}")
    memory = [
        f"{name} {passport.log[key] / 2**20:.1f} MiB"
        for name, key in (("weights", "weights_bytes"), ("activations", "activation_bytes"))
        if key in passport.log
    ]
    if memory:
        out.say(f"on the device: {', '.join(memory)}")
    out.say(
        f"evidence: {passport.evidence.value} (nothing ran); engine {passport.engine_sha256[:12]}"
    )
