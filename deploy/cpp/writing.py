"""Writing ``model.hpp``, and the loaders and the rig's tables beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.errors import UserError
from exporters.files import require_writable, written_atomically
from exporters.modelfile import InputSpec, ModelFile, ModelSpec, OutputSpec, StateSpec

HEADER = "model.hpp"
STATIC = (
    "ports.hpp",
    "onnxruntime.hpp",
    "tensorrt.hpp",
    "run.hpp",
    "main_onnxruntime.cpp",
    "main_tensorrt.cpp",
    "CMakeLists.txt",
)

MAX_RANK = 8
_TYPES = {
    "bool": "boolean",
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"u{bits}" for bits in (8, 16, 32, 64)},
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
}
_RAW_LIMIT = 16_000  # compilers must take string literals of 64 KiB; MSVC stops at 16 KB
Port = InputSpec | OutputSpec


@dataclass(frozen=True)
class EmittedCpp:
    """What was written.

    Attributes:
        files: sources, relative to ``directory``.
        tables: raw tensors of a rig, one for each input that is a table.
    """

    directory: Path
    files: tuple[str, ...]
    tables: tuple[str, ...] = ()


def emit_cpp(
    model: ModelFile | Path | str,
    output: Path | str,
    *,
    rig: Path | str | None = None,
    overwrite: bool = False,
) -> EmittedCpp:
    """Write a C++ consumer of ``model`` into the folder ``output``.

    Args:
        rig: cameras, for a model whose geometry tables are inputs: they are written as raw tensors
            that the program reads.

    Raises:
        UserError: no self-description, a dynamic axis, a type or state that the loaders do not
            have, or a file exists already.
    """
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    spec = file.require_spec()
    output = Path(output)
    text = header(spec, file.sha256)
    tables = _rig_tables(spec, rig)
    for name in (HEADER, *STATIC, *tables):
        require_writable(output / name, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    with written_atomically(output / HEADER, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for name in STATIC:
        with written_atomically(output / name, overwrite=overwrite) as temporary:
            shutil.copyfile(Path(__file__).with_name(name), temporary)
    for name, data in tables.items():
        with written_atomically(output / name, overwrite=overwrite) as temporary:
            temporary.write_bytes(data)
    return EmittedCpp(output, (HEADER, *STATIC), tuple(tables))


def header(spec: ModelSpec, sha256: str) -> str:
    """The text of ``model.hpp``."""
    inputs, outputs = spec.inputs, spec.outputs
    lines = [
        f"// {spec.variant}, {spec.weights}; written by edgeport emit-cpp from the model file with",
        f"// SHA-256 {sha256}",
        "#pragma once",
        "",
        '#include "ports.hpp"',
        "",
        "namespace model {",
        "",
        *_ports("kInputs", inputs),
        *_ports("kOutputs", outputs),
        *_indices("input", inputs),
        *_indices("output", outputs),
        *_states(spec),
        *_array("const char*", "kClasses", [_quoted(name) for name in spec.classes]),
        "// Grid, image size and whatever else the exporter says, as JSON.",
        "inline constexpr char kGeometry[] =",
        *_literal(json.dumps(dict(spec.geometry), sort_keys=True)),
        "",
        "inline constexpr edgeport::Model kModel{",
        f"    {_quoted(spec.variant)},",
        f"    {_quoted(sha256)},",
        f"    kInputs, {len(inputs)}, kOutputs, {len(outputs)},",
        f"    {'kStates' if spec.states else 'nullptr'}, {len(spec.states)},",
        "};",
        "",
        "}  // namespace model",
    ]
    return "\n".join(lines) + "\n"


def _ports(name: str, ports: Sequence[Port]) -> list[str]:
    return _array("edgeport::Port", name, [_port(port) for port in ports])


def _port(port: Port) -> str:
    if any(isinstance(size, str) for size in port.shape):
        raise UserError(
            f"{port.name!r} has dynamic axes {list(port.shape)}; the C++ buffers have fixed sizes",
            fix="Export the model with fixed sizes",
        )
    if len(port.shape) > MAX_RANK:
        raise UserError(
            f"{port.name!r} has {len(port.shape)} axes, the C++ header has room for {MAX_RANK}",
            fix="Reshape it in the model",
        )
    if port.dtype not in _TYPES:
        raise UserError(
            f"{port.name!r} is {port.dtype}, a type that the C++ loaders do not have",
            fix=f"Cast it in the model to one of {', '.join(_TYPES)}",
        )
    sizes = ", ".join(map(str, port.shape))
    kind = f"edgeport::Type::{_TYPES[port.dtype]}"
    return f"{{{_quoted(port.name)}, {kind}, {len(port.shape)}, {{{sizes}}}}},  // {port.semantics}"


def _indices(namespace: str, ports: Sequence[Port]) -> list[str]:
    names = [_identifier(port.name) for port in ports]
    if len(set(names)) < len(names):  # two names that differ in punctuation only
        names = [f"{name}_{index}" for index, name in enumerate(names)]
    lines = [f"inline constexpr std::size_t {n} = {i};" for i, n in enumerate(names)]
    return [f"namespace {namespace} {{", *lines, f"}}  // namespace {namespace}", ""]


def _states(spec: ModelSpec) -> list[str]:
    inputs = [port.name for port in spec.inputs]
    outputs = [port.name for port in spec.outputs]

    def entry(state: StateSpec) -> str:
        if state.reset != "zeros":
            raise UserError(
                f"state {state.input!r} starts with {state.reset}, the C++ loaders know zeros only",
                fix="Feed it yourself: run the model file in Python",
            )
        if state.age != 1:
            raise UserError(
                f"state {state.input!r} is of {state.age} samples ago, "
                "the C++ loaders remember the last sample only",
                fix="Feed it yourself: run the model file in Python",
            )
        return f"{{{outputs.index(state.output)}, {inputs.index(state.input)}}},  // {state.input}"

    return _array("edgeport::State", "kStates", [entry(state) for state in spec.states])


def _array(kind: str, name: str, items: Sequence[str]) -> list[str]:
    """A constant array; nothing where it would be empty, which C++ does not allow."""
    if not items:
        return []
    rows = [item if "//" in item or item.endswith(",") else item + "," for item in items]
    return [f"inline constexpr {kind} {name}[] = {{", *(f"    {row}" for row in rows), "};", ""]


def _literal(text: str) -> list[str]:
    """One string constant, in pieces that every compiler takes."""
    pieces = [text[i : i + _RAW_LIMIT] for i in range(0, len(text), _RAW_LIMIT)] or [""]
    return [f"    {_quoted(piece)}" for piece in pieces[:-1]] + [f"    {_quoted(pieces[-1])};"]


def _quoted(text: str) -> str:
    """A C++ string literal: printable ASCII as it is, all other bytes as octal escapes."""
    plain = {byte: chr(byte) for byte in range(32, 127)} | {34: '\\"', 92: "\\\\"}
    # three octal digits always: the escape cannot swallow a digit that follows. "?" twice would
    # begin a trigraph in old dialects
    body = "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode())
    return '"' + body.replace("??", '?""?') + '"'


def _identifier(name: str) -> str:
    """``kPointFeatures`` for ``point.features``; never a keyword of C++."""
    words = re.split(r"[\W_]+", name, flags=re.ASCII)
    return "k" + "".join(word[:1].upper() + word[1:] for word in words)


def _rig_tables(spec: ModelSpec, rig: Path | str | None) -> dict[str, bytes]:
    """Bytes of ``NAME.bin`` by file name, for every input that is a geometry table."""
    wanted = [port.name for port in spec.inputs if port.semantics == "rig-table"]
    if rig is None:
        return {}
    if not wanted:
        raise UserError(
            f"{spec.variant} has its rig baked in: no input is a table", fix="Leave --rig away"
        )
    from exporters.flashocc.preprocess import rig_tables
    from exporters.flashocc.rig import Rig

    cameras = next(p.details["cameras"] for p in spec.inputs if p.semantics == "camera-images")
    tables = rig_tables(Rig.load(Path(rig)).ordered(cameras), spec)
    return {f"{name}.bin": tables[name].tobytes() for name in wanted}
