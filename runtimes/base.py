"""What every runtime is to the rest of edgeport: probe, preflight, build, load, run, time.

A runtime turns a model file into an engine and an engine into a session. The model file decides
nothing about the runtime; the runtime knows nothing about the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from exporters.modelfile import ModelFile
from runtimes.shapes import ShapeRange

Array = NDArray[Any]
Feeds = Mapping[str, Array]

Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; total is 0 where the runtime does not know it."""


class Evidence(str, Enum):
    """How a claim about a backend is known; shown by doctor, check and the docs."""

    EXECUTED = "executed"  # ran here, and its numbers were compared
    BUILT = "built"  # a real parser or builder took it or refused it; nothing ran
    NAME_CHECKED = "name-checked"  # every API name occurs in that version's bindings
    WRITTEN = "written"  # code or table row from documentation; nobody ran it


@dataclass(frozen=True)
class Availability:
    """What a runtime can do on this machine.

    Attributes:
        reason: one sentence why it cannot build or run, empty if it can do both.
        fix: the command that would change that.
    """

    runtime: str
    version: str | None
    can_build: bool
    can_run: bool
    evidence: Evidence
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing a preflight found out about a model on a target.

    Attributes:
        severity: ``error`` stops a build, ``note`` does not.
        node: ONNX node name, empty for the whole model.
        source: the parser and its version, or the row of ``targets.toml`` with its source.
    """

    severity: Literal["error", "note"]
    message: str
    node: str = ""
    op_type: str = ""
    fix: str = ""
    source: str = ""
    evidence: Evidence = Evidence.WRITTEN


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes:
        target: key of ``targets.toml``, or None for the machine this runs on.
        compute_capabilities: like ``("8.9", "12.0")``; empty for the builder's portable default.
        workspace_mib: memory the builder may plan with; None for its default.
        shapes: the range of each input with dynamic axes.
        timing_cache: file with the kernel times of earlier builds, read and then written again.
        strict_timing_cache: a kernel whose time is not in that file stops the build.
        strip_weights: an engine without weights, refitted from the model before it runs.
        refit: an engine whose weights can be exchanged.
        optimization_level: 0 (fast build) to 5 (fast engine); None for the builder's default.
        layer_details: keep what ``edgeport inspect --layers`` reads in the engine.
        timeout_s: kill the build after this time.
    """

    target: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    shapes: tuple[ShapeRange, ...] = ()
    timing_cache: Path | None = None
    strict_timing_cache: bool = False
    strip_weights: bool = False
    refit: bool = False
    optimization_level: int | None = None
    layer_details: bool = False
    timeout_s: float = 3600.0
    overwrite: bool = False


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a session or an engine.

    Attributes:
        dtype: numpy name; ``bfloat16`` and ``float8_e4m3fn`` where numpy has none.
        shape: fixed sizes; a string names a dynamic axis.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Passport:
    """What an engine says of itself: the sidecar ``ENGINE.passport.json``.

    Attributes:
        runtime, runtime_version: who built it, ``tensorrt-rtx`` ``1.7.1.116``.
        compute_capabilities: what it was built for; empty means the builder's portable default.
        model_sha256: of the model file it was built from.
        engine_sha256, size_bytes: of the engine itself.
        build_s: wall-clock seconds.
        target: key of ``targets.toml`` that was asked for, or None.
        model: variant, family, task and weights of the model file; its name where it has no spec.
        log: what the builder reported (``weights_bytes``, ``activation_bytes``, ...).
        options: build options that are not the builder's own: ``shapes``, ``refit``, ...
        inputs, outputs: what the engine takes and gives.
    """

    runtime: str
    runtime_version: str
    evidence: Evidence
    compute_capabilities: tuple[str, ...]
    model_sha256: str
    engine_sha256: str
    size_bytes: int
    build_s: float
    target: str | None = None
    model: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()


@dataclass(frozen=True)
class Engine:
    path: Path
    passport: Passport


class Session(Protocol):
    """A loaded model that can be run; closing it frees the device."""

    @property
    def runtime(self) -> str: ...

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Check the feeds (a wrong name, shape or dtype is a UserError), then execute."""
        ...

    def execute(self, feeds: Feeds) -> dict[str, Array]:
        """Run feeds that were checked before: what a benchmark times."""
        ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """One adapter a runtime; found by name through ``runtimes.get``."""

    @property
    def name(self) -> str: ...

    def probe(self) -> Availability: ...

    def preflight(self, model: ModelFile, target: str | None = None) -> list[Finding]: ...

    def build(
        self,
        model: ModelFile,
        output: Path,
        options: BuildOptions | None = None,
        progress: Progress | None = None,
    ) -> Engine: ...

    def load(self, path: Path, *, threads: int | None = None) -> Session: ...
