"""The kernels' library: compiled where it runs, once for each source, compiler and CPU.

`library` gives the file in the user's cache and makes it when it is not there yet. It needs a C++17
compiler (``CXX``, ``g++`` or ``clang++``) and the C++ headers of ONNX Runtime, any version from
1.18 that is not newer than the installed package: ``ONNXRUNTIME_INCLUDE`` names their folder where
it is not ``/usr/include/onnxruntime``.

The tables of exponential and sigmoid are written into a header from `exporters.ops`, so that there
is one source of them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporters.errors import EdgeportError, MissingRequirementError
from exporters.files import written_atomically

SOURCES = Path(__file__).with_name("cpp")
MAIN = "kernels.cpp"
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fwrapv",  # sums wrap at 64 bits, as ONNX Runtime's do
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
)
NATIVE = "native"
_HEADER = "onnxruntime_cxx_api.h"
_COMPILERS = ("g++", "clang++")


def library(march: str = NATIVE, *, cache: Path | None = None) -> Path:
    """The compiled kernels for this machine.

    Args:
        march: the compiler's name of an instruction set, as ``x86-64-v3``.
        cache: folder of compiled libraries; None for the user's.

    Raises:
        MissingRequirementError: there is no compiler, or no headers of ONNX Runtime.
        EdgeportError: the compiler refuses.
    """
    compiler, include = find_compiler(), find_headers()
    tables = tables_header()
    flags = [*FLAGS, *_machine_flags(), f"-march={march}", f"-isystem{include}"]
    key = _key(compiler, flags, tables, include / "onnxruntime_c_api.h")
    path = (cache or user_cache()) / f"kernels-{key}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, flags, tables, path)
    return path


def find_compiler() -> str:
    """Path of a C++ compiler.

    Raises:
        MissingRequirementError: there is none.
    """
    chosen = os.environ.get("CXX")
    for name in (chosen,) if chosen else _COMPILERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise MissingRequirementError(
        f"compiled kernels need a C++ compiler; {chosen or ' and '.join(_COMPILERS)} not found",
        fix="Install g++, or run without kernels",
    )


def find_headers() -> Path:
    """Folder of ONNX Runtime's C++ headers.

    Raises:
        MissingRequirementError: they are not there; the Python package does not bring them.
    """
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    if not (include / _HEADER).is_file():
        raise MissingRequirementError(
            f"compiled kernels need {_HEADER} of ONNX Runtime; it is not in {include}",
            fix="Install libonnxruntime-dev (or unpack ONNX Runtime's release for C++) and set "
            "ONNXRUNTIME_INCLUDE to the folder that holds it; or run without kernels",
        )
    return include


def user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeport"


def tables_header() -> str:
    """C++ source of the tables of `exporters.ops`."""
    from exporters.ops import exponential, swiglu

    def array(name: str, kind: str, values: Iterable[Any]) -> str:
        return f"inline constexpr std::{kind} {name}[] = {{{','.join(map(str, values))}}};"

    lines = (
        "#pragma once",
        "#include <cstdint>",
        "namespace edgeport {",
        f"constexpr int kFractionBits = {exponential.FRACTION_BITS};",
        f"constexpr std::int64_t kLastOctave = {exponential.LAST};",
        f"constexpr int kSigmoidBits = {swiglu.SIGMOID_BITS};",
        array("kExpTable", "int32_t", exponential.EXP_TABLE.tolist()),
        array("kSigmoidTable", "int32_t", swiglu.SIGMOID_TABLE.tolist()),
        "}",
    )
    return "\n".join(lines) + "\n"


def _machine_flags() -> tuple[str, ...]:
    """Compilers use half of a 512-bit vector unit unless told; whole ones gain a third here."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return ("-mprefer-vector-width=512",) if x86 else ()


def _key(compiler: str, flags: list[str], tables: str, header: Path) -> str:
    """Of everything that the library depends on; what ``native`` means is the compiler's word."""
    macros = _run([compiler, *flags, "-dM", "-E", "-x", "c++", os.devnull])
    digest = hashlib.sha256()
    for part in (compiler, *flags, macros, tables, header.read_text(encoding="utf-8")):
        digest.update(part.encode())
    for source in sorted(SOURCES.iterdir()):
        if source.is_file():
            digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:20]


def _compile(compiler: str, flags: list[str], tables: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tables.hpp").write_text(tables, encoding="utf-8")
        with written_atomically(path, overwrite=True) as temporary:
            source = str(SOURCES / MAIN)
            _run([compiler, *flags, f"-I{folder}", source, "-o", str(temporary)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = "\n".join(done.stderr.strip().splitlines()[:12])
        raise EdgeportError(
            f"{command[0]} does not compile the kernels:\n{words}",
            fix="Run without kernels, or set CXX to a compiler that knows C++17 and this CPU",
        )
    return done.stdout
