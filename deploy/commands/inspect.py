"""``edgeport inspect``: what a model file or an engine says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import layer_audit
from deploy.console import Output, cell
from deploy.exact_floats import EXACT, audit_exact_floats
from deploy.inspection import ModelPassport, describe_geometry, inspect
from deploy.integer_audit import audit_integers
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from exporters.ops.tensorrt_backend import MAX_KEYS
from runtimes.base import Passport

if TYPE_CHECKING:
    from exporters.modelfile import InputSpec, ModelSpec, OutputSpec
    from runtimes.tensorrt.foreign import ForeignEngine


def command(
    file: Annotated[Path, typer.Argument(help="A model file (.onnx) or an engine.")],
    layers: Annotated[
        Path | None, typer.Option(help="Layer information: trtexec --exportLayerInfo.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Times of these layers: trtexec --exportProfile.")
    ] = None,
    fp16_profile: Annotated[
        Path | None, typer.Option(help="Times of the FP16 engine of the same model.")
    ] = None,
    export_layers: Annotated[
        Path | None, typer.Option(help="Write layer information here; needs the engine's GPU.")
    ] = None,
    export_profile: Annotated[
        Path | None, typer.Option(help="Write times of the layers here; needs the engine's GPU.")
    ] = None,
    integer_only: Annotated[
        bool,
        typer.Option("--integer-only", help="Fail unless every value in the graph is an integer."),
    ] = False,
    integer_valued: Annotated[
        bool,
        typer.Option("--integer-valued", help="Fail unless every float provably is an integer."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show the passport of a model file or of an engine.

    For a model file: what it takes and gives, classes, geometry, where the weights come from,
    operators, sizes and what is quantized. For an engine: who built it, from which model file, for
    which hardware. Example:

        edgeport inspect m0.int8.onnx --json

    With --layers it also audits an engine's layers: where the INT8 islands are, what the
    conversions at their borders cost, and where to stay FP16:

        edgeport inspect m.engine --layers layers.json --profile profile.json

    With --integer-only it walks every value's type from inputs to outputs, functions inlined, and
    fails (exit code 2) naming the first that is a float or whose type is unknown:

        edgeport inspect m.onnx --integer-only

    A language model for TensorRT multiplies integers as float32. With --integer-valued intervals
    are computed through the graph, and it fails unless no float can be anything but an integer of
    at most 2^24, which float32 has exactly.

    Known limits: an ONNX from elsewhere shows its graph alone. An engine is known by the
    .passport.json that lies beside it; without that only its TensorRT version can be read, from
    8.x and 10.x engines. Layers need an engine that was built with --layer-details.
    """
    out = Output(json=as_json)
    _require_layers(layers, profile, fp16_profile)
    passport = inspect(file)
    if integer_only or integer_valued:
        (_say_integers if integer_only else _say_exact_floats)(out, file)
        return
    if export_layers or export_profile:
        layer_audit.export_layers(file, export_layers, export_profile)
    if isinstance(passport, ModelPassport):
        _say_model(out, passport)
    elif isinstance(passport, Passport):
        _say_engine(out, file, passport)
    else:
        _say_foreign(out, passport)
    if layers is None:
        out.result(passport)
        return
    found = layer_audit.audit_files(layers, profile, fp16_profile)
    layer_audit.say_audit(out, found)
    out.result({"passport": passport, "layers": found.to_json()})


def _say_integers(out: Output, file: Path) -> None:
    found = audit_integers(ModelFile(file).proto)
    found.require(file)
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in found.values.items())
    out.say(f"{file} is integer-only: {sum(found.values.values())} values in {found.nodes} nodes")
    out.say(kinds)
    out.result(found)


def _say_exact_floats(out: Output, file: Path) -> None:
    model = ModelFile(file)
    context = model.spec.geometry.get("context") if model.spec is not None else None
    found = audit_exact_floats(model.proto, context or MAX_KEYS)
    found.require(file)
    out.say(
        f"{file}: {found.values} floats of {found.products} products are integers, at most "
        f"{found.largest} of {EXACT}"
    )
    out.result(found)


def _require_layers(layers: Path | None, *others: Path | None) -> None:
    if layers is None and any(others):
        raise UserError("a profile alone says too little", fix="Add --layers FILE")


def _say_foreign(out: Output, found: ForeignEngine) -> None:
    out.say(f"{found.path} ({found.size_bytes / 1e6:.1f} MB), sha256 {found.sha256}")
    out.say(f"an engine from elsewhere, without a passport: built by {found.built_by}")
    out.say("its GPU, its model and its types are unknown; public sources tell no more")


def _say_model(out: Output, passport: ModelPassport) -> None:
    spec = passport.spec
    out.say(f"{passport.path} ({passport.size_bytes / 1e6:.1f} MB), sha256 {passport.sha256}")
    if spec is None:
        out.say("an ONNX from elsewhere: it carries no edgeport self-description")
    else:
        out.say(f"{spec.variant} ({spec.family}, {spec.task}), {spec.weights}")
    opsets = ", ".join(f"{domain} {version}" for domain, version in passport.opsets.items())
    out.say(f"opset {opsets}; IR version {passport.ir_version}; made by {passport.producer}")
    ports = [("input", t) for t in passport.inputs] + [("output", t) for t in passport.outputs]
    rows = [
        (kind, t.name, t.dtype, " ".join(map(str, t.shape)), _semantics(spec, t.name))
        for kind, t in ports
    ]
    out.table("Inputs and outputs", ["", "name", "dtype", "shape", "meaning"], rows)
    out.table(
        f"Operators ({passport.nodes} nodes)",
        ["operator", "count", "of them quantized"],
        [
            (name, n, passport.quantized.get(name, (None,))[0])
            for name, n in passport.operators.items()
        ],
    )
    out.table(
        f"Constants ({passport.parameters / 1e6:.2f} M weights)",
        ["dtype", "MB"],
        [(name, size / 1e6) for name, size in passport.weights_bytes.items()],
    )
    if spec is not None:
        _say_spec(out, spec)


def _say_spec(out: Output, spec: ModelSpec) -> None:
    out.say(f"classes: {', '.join(spec.classes)}")
    out.table("Geometry", ["what", "value"], describe_geometry(spec.geometry))
    out.table("Stays float unless asked", ["nodes", "reason"], list(spec.keep_float.items()))
    if spec.quantization is not None:
        rows = [(key, cell(value)) for key, value in spec.quantization.items() if _short(value)]
        out.table("Quantization", ["what", "value"], rows)
    out.say("written with " + ", ".join(f"{name} {v}" for name, v in spec.tools.items()))


def _say_engine(out: Output, file: Path, passport: Passport) -> None:
    out.say(f"{file} ({passport.size_bytes / 1e6:.1f} MB), sha256 {passport.engine_sha256}")
    hardware = ", ".join(passport.compute_capabilities) or "the builder's portable default"
    rows = [
        ("runtime", f"{passport.runtime} {passport.runtime_version}"),
        ("evidence", passport.evidence),
        ("compute capabilities", hardware),
        ("target", passport.target),
        ("built from model file", passport.model_sha256),
        ("build time s", passport.build_s),
        *passport.model.items(),
        *((f"option {name}", json.dumps(value)) for name, value in passport.options.items()),
        *passport.log.items(),
    ]
    out.table("Engine", ["what", "value"], [(name, cell(value)) for name, value in rows])


def _semantics(spec: ModelSpec | None, name: str) -> str:
    if spec is None:
        return ""
    ports: list[InputSpec | OutputSpec] = [*spec.inputs, *spec.outputs]
    return next((port.semantics for port in ports if port.name == name), "")


def _short(value: object) -> bool:
    return isinstance(value, (str, int, float)) or value is None
