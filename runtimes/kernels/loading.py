"""A model file in ONNX Runtime, with compiled kernels for its functions."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from exporters.errors import UserError
from runtimes.kernels.compiling import SOURCES, library
from runtimes.ort import OrtSession, cpu


def load_with_kernels(
    path: Path, functions: Collection[str], *, threads: int | None = None
) -> OrtSession:
    """Open ``path`` on the CPU; functions without a kernel run as standard operators.

    Args:
        functions: names of the functions that the file carries.

    Raises:
        UserError: none of them has a kernel, or the file cannot be loaded.
        MissingRequirementError: there is no compiler or no headers of ONNX Runtime.
    """
    if not kernel_names() & set(functions):
        raise UserError(
            f"{path} has no function that there is a compiled kernel for",
            fix="Kernels are for integer-only language models, exported with their functions; "
            "leave --kernels out",
        )
    return cpu().load(path, threads=threads, kernels=library())


def kernel_names() -> frozenset[str]:
    """Names of the functions that the library has kernels for, as its sources say."""
    named = re.compile(r'kName = "(\w+)"')
    found = (named.findall(source.read_text(encoding="utf-8")) for source in SOURCES.glob("*.hpp"))
    return frozenset(name for names in found for name in names)
