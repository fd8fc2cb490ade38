"""Engines from elsewhere: what public sources say about the file, and otherwise "unknown".

NVIDIA answered in public where a plan keeps the version of the TensorRT that built it: one byte
each for major, minor and patch, at offsets 24, 25 and 26 (NVIDIA/TensorRT issue 3073, June 2023,
for 8.6). Autoware reads the same bytes with 10.x (autoware_universe#10320, March 2025).
Nothing is public about TensorRT 11 and TensorRT-RTX, and NVIDIA's licence forbids finding out, so
any other number there means "unknown", and so does everything else in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporters.errors import UserError
from exporters.files import sha256_file
from runtimes.base import Evidence

SUFFIXES = (".engine", ".plan", ".trt")
_VERSION = slice(24, 27)
_KNOWN_MAJORS = (8, 10)
_REBUILD = "Build it here from its model file: edgeport build MODEL.onnx -o ENGINE"


@dataclass(frozen=True)
class ForeignEngine:
    """An engine without a passport; ``tensorrt`` is like ``10.3.0``, empty where not known."""

    path: Path
    size_bytes: int
    sha256: str
    tensorrt: str
    gpu: str = ""
    evidence: Evidence = Evidence.WRITTEN

    @property
    def built_by(self) -> str:
        return f"TensorRT {self.tensorrt}" if self.tensorrt else "an unknown version of TensorRT"


def read_foreign(path: Path) -> ForeignEngine:
    """What can be said of the engine at ``path``."""
    with path.open("rb") as stream:
        head = stream.read(_VERSION.stop)
    version = head[_VERSION]
    known = len(version) == 3 and version[0] in _KNOWN_MAJORS
    return ForeignEngine(
        path=path,
        size_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        tensorrt=".".join(str(part) for part in version) if known else "",
    )


def refuse_foreign(path: Path, here: str) -> UserError:
    """The sentence for an engine without a passport that somebody wants to run.

    Args:
        here: the TensorRT of this machine, ``TensorRT 10.3.0``.
    """
    found = read_foreign(path)
    return UserError(
        f"{path} has no passport; it was built by {found.built_by}, for an unknown GPU, and "
        f"here is {here}: an engine runs only where version and GPU are its builder's",
        fix=_REBUILD,
    )
