"""ONNX Runtime: runs the model file itself, on the CPU or with one of its GPU providers.

A provider that cannot start makes ONNX Runtime fall back to the CPU with a warning. A number from
the wrong device is worse than none, so a session checks where it landed and refuses otherwise.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import PREFIX, ModelFile
from runtimes import ort_plugins, targets
from runtimes.base import (
    Array,
    Availability,
    BuildOptions,
    Engine,
    Evidence,
    Feeds,
    Finding,
    Progress,
    TensorInfo,
)
from runtimes.cuda import device_problem
from runtimes.feeds import check_feeds
from runtimes.graphview import GraphView
from runtimes.ort_plugins import RTX, Plugin
from runtimes.rules import check_table

if TYPE_CHECKING:
    from onnx import ModelProto

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"

_NUMPY_NAMES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bool": "bool",
    "string": "str",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
    "float8e4m3fn": "float8_e4m3fn",
    "float8e5m2": "float8_e5m2",
}


@dataclass(frozen=True)
class OrtRuntime:
    """ONNX Runtime with one execution provider; implements ``runtimes.base.Runtime``.

    Attributes:
        providers: in order of preference; the first one must take the model.
        package: what ``pip`` installs to have it.
        plugin: where the first provider comes from, if not from ONNX Runtime itself.
    """

    name: str
    providers: tuple[str, ...]
    package: str
    evidence: Evidence
    plugin: Plugin | None = None

    def probe(self) -> Availability:
        problem = self._problem()
        return Availability(
            runtime=self.name,
            version=_version(),
            can_build=False,  # nothing is built: the model file runs as it is
            can_run=not problem,
            evidence=self.evidence,
            reason=problem or "it runs the model file itself, there is nothing to build",
            fix=f"pip install {self.package}" if problem else "",
        )

    def _problem(self) -> str:
        if self.plugin is not None and _version() is not None:
            return ort_plugins.problem(self.plugin)
        return _provider_problem(self.providers[0])

    def preflight(self, model: ModelFile, target: str | None = None) -> list[Finding]:
        """Load the model for real; what ONNX Runtime refuses is one finding with its words."""
        findings: list[Finding] = []
        if target is not None:
            table = targets.load()
            findings += check_table(GraphView(model.proto), table.get(target), table)
        try:
            self.load(model.path).close()
        except UserError as error:
            source = f"ONNX Runtime {_version()}, run here"
            finding = Finding("error", error.message, "", "", error.fix, source)
            findings.append(replace(finding, evidence=Evidence.EXECUTED))
        return findings

    def build(
        self,
        model: ModelFile,
        output: Path,
        options: BuildOptions | None = None,
        progress: Progress | None = None,
    ) -> Engine:
        """Nothing is ever built.

        Raises:
            UserError: always.
        """
        del output, options, progress
        raise UserError(
            f"{self.name} builds no engine: it runs {model.path} as it is",
            fix=f"edgeport bench {model.path} --runtime {self.name}",
        )

    def load(
        self, path: Path, *, threads: int | None = None, kernels: Path | None = None
    ) -> OrtSession:
        """Open ``path``; ``threads`` computes one operator, all cores where None.

        Args:
            kernels: a library of custom operators, as `runtimes.kernels.library` compiles it; they
                take the place of the file's functions of the same names.

        Raises:
            UserError: not a model file, or it has an operator that ONNX Runtime does not know.
            MissingRequirementError: the provider is not there or did not start.
        """
        problem = self._problem()
        if problem:
            raise MissingRequirementError(
                f"{self.name} cannot run here: {problem}", fix=f"pip install {self.package}"
            )
        if not path.is_file():
            raise UserError(
                f"no model file at {path}", fix="Check the path, or run: edgeport export"
            )
        return OrtSession(self.name, path, self.providers, threads, kernels, self.plugin)


def cpu() -> OrtRuntime:
    return OrtRuntime("onnxruntime", (_CPU,), "onnxruntime", Evidence.EXECUTED)


def cuda() -> OrtRuntime:
    return OrtRuntime("onnxruntime-cuda", (_CUDA, _CPU), "onnxruntime-gpu", Evidence.WRITTEN)


def tensorrt() -> OrtRuntime:
    providers = (_TENSORRT, _CUDA, _CPU)
    return OrtRuntime("onnxruntime-tensorrt", providers, "onnxruntime-gpu", Evidence.WRITTEN)


def tensorrt_rtx() -> OrtRuntime:
    package = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
    providers = (RTX.provider, _CPU)
    return OrtRuntime("onnxruntime-tensorrt-rtx", providers, package, Evidence.WRITTEN, RTX)


class OrtSession:
    """A model file loaded by ONNX Runtime; implements ``runtimes.base.Session``.

    Threads of a session stop spinning when a run ends, so that sessions which take turns do not
    steal each other's cores.
    """

    def __init__(
        self,
        runtime: str,
        path: Path,
        providers: Sequence[str],
        threads: int | None,
        kernels: Path | None = None,
        plugin: Plugin | None = None,
    ) -> None:
        self.runtime = runtime
        self._session: Any = _open(path, providers, threads, kernels, plugin)
        landed = self._session.get_providers()[0]
        if landed != providers[0]:
            raise MissingRequirementError(
                f"{providers[0]} did not start and ONNX Runtime fell back to {landed}",
                fix="Check the CUDA and cuDNN versions that this onnxruntime-gpu asks for",
            )
        self.inputs = tuple(map(_tensor_info, self._session.get_inputs()))
        self.outputs = tuple(map(_tensor_info, self._session.get_outputs()))

    def run(self, feeds: Feeds) -> dict[str, Array]:
        check_feeds(self.inputs, feeds)
        return self.execute(feeds)

    def execute(self, feeds: Feeds) -> dict[str, Array]:
        values = self._session.run(None, dict(feeds))
        return {info.name: value for info, value in zip(self.outputs, values, strict=True)}

    def close(self) -> None:
        self._session = None


def _open(
    path: Path,
    providers: Sequence[str],
    threads: int | None,
    kernels: Path | None,
    plugin: Plugin | None,
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they come back as exceptions too
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.force_spinning_stop", "1")
    proto = _peek(path)
    if proto is not None and _planning_is_slow(proto):
        options.enable_mem_reuse = False
    if proto is not None and _is_for_tensorrt(proto):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if kernels is not None:
        _register(kernels, options)
    try:
        if plugin is not None:  # the CPU takes what the plugin leaves
            options.add_provider_for_devices(ort_plugins.devices(plugin), {})
            return onnxruntime.InferenceSession(str(path), options)
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its exceptions share no public base class
        raise _load_error(path, error) from error


def _register(kernels: Path, options: Any) -> None:
    try:
        options.register_custom_ops_library(str(kernels))
    except Exception as error:  # its exceptions share no public base class
        raise MissingRequirementError(
            f"ONNX Runtime {_version()} does not take the kernels in {kernels}: "
            f"{' '.join(str(error).split())}",
            fix="Delete that file, so that it is compiled again, or run without kernels",
        ) from error


_MANY_NODES = 2000


def _peek(path: Path) -> ModelProto | None:
    """The graph without its external weights; None where the session will say what is wrong."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError):
        return None


def _planning_is_slow(proto: ModelProto) -> bool:
    """Whether loading would take minutes: many nodes, and shapes that are known only at run time.

    ONNX Runtime's planner then compares every buffer with every other one and finds none that it
    may reuse: time grows with the square of the number of nodes, for nothing.
    """
    dynamic = any(dim.dim_param for v in proto.graph.input for dim in v.type.tensor_type.shape.dim)
    sizes = {(f.domain, f.name): len(f.node) for f in proto.functions}
    nodes = sum(sizes.get((node.domain, node.op_type), 1) for node in proto.graph.node)
    return dynamic and nodes > _MANY_NODES


def _is_for_tensorrt(proto: ModelProto) -> bool:
    """Whether a file says that its Q/DQ are TensorRT's: then they are run as they stand, in float.

    ONNX Runtime would make integer kernels of them and move them to where those need them. With the
    rest in FP16 that is not the same network: a FlashOcc lost 4.0 points of mIoU instead of 1.0.
    """
    found = [p.value for p in proto.metadata_props if p.key == PREFIX + "quantization"]
    try:
        described = json.loads(found[0]) if found else None
    except ValueError:
        return False  # the reader of descriptions says so
    return isinstance(described, dict) and described.get("policy") == "tensorrt"


def _load_error(path: Path, error: Exception) -> UserError:
    ModelFile(path).proto  # noqa: B018 - a truncated file is explained by the reader
    words = " ".join(str(error).split())
    return UserError(
        f"ONNX Runtime {_version()} does not take {path}: {words}",
        fix="Export it with operators of an opset that this version knows, or upgrade onnxruntime",
    )


def _provider_problem(provider: str) -> str:
    if _version() is None:
        return "onnxruntime is not installed"
    import onnxruntime

    present = onnxruntime.get_available_providers()
    if provider not in present:
        return f"this onnxruntime has no {provider} (it has {', '.join(present)})"
    return device_problem() if provider != _CPU else ""


def _version() -> str | None:
    for package in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return None


def _tensor_info(value: Any) -> TensorInfo:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dims = tuple("?" if size is None else size for size in value.shape)
    return TensorInfo(value.name, _NUMPY_NAMES.get(kind, kind), dims)
