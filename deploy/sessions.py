"""Opening whatever file can be run: a model file in ONNX Runtime, an engine in its own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporters.modelfile import ModelFile, ModelSpec
from runtimes.base import Session
from runtimes.registry import get, runtime_for

ONNX_SUFFIX = ".onnx"


@contextmanager
def open_session(path: Path, *, threads: int | None = None) -> Iterator[Session]:
    """A session for ``path``, closed at the end.

    Raises:
        UserError: no such file, not a model, an engine of another version.
        MissingRequirementError: the runtime or its device is not here.
    """
    session = get(runtime_for(path)).load(path, threads=threads)
    try:
        yield session
    finally:
        session.close()


def spec_of(path: Path) -> ModelSpec | None:
    """The self-description of a model file; None for a foreign ONNX and for an engine."""
    return ModelFile(path).spec if path.suffix == ONNX_SUFFIX else None
