"""OpenVINO: runs the model file itself on the CPU, INT8 in its own integer kernels.

Two of its habits are switched off. On a CPU that has BF16 it would compute FP32 models in it, which
is another network than the one that was verified. And on import it would send usage data from a
forked process, which hangs where standard input is being read.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import ModelFile
from runtimes import targets
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
from runtimes.feeds import check_feeds
from runtimes.graphview import GraphView
from runtimes.inlining import inlined_file
from runtimes.rules import check_table

INSTALL = "pip install 'edgeport[openvino]'"

_DEVICE = "CPU"


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO's CPU device; implements ``runtimes.base.Runtime``."""

    name: str = "openvino"

    def probe(self) -> Availability:
        version = _version()
        if version is None:
            reason = "openvino is not installed"
            return Availability(self.name, None, False, False, Evidence.WRITTEN, reason, INSTALL)
        reason = "it runs the model file itself, there is nothing to build"
        return Availability(self.name, version, False, True, Evidence.EXECUTED, reason)

    def preflight(self, model: ModelFile, target: str | None = None) -> list[Finding]:
        """Load the model for real; what OpenVINO refuses is one finding with its words."""
        findings: list[Finding] = []
        if target is not None:
            table = targets.load()
            findings += check_table(GraphView(model.proto), table.get(target), table)
        try:
            self.load(model.path).close()
        except UserError as error:
            source = f"OpenVINO {_version()}, run here"
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

    def load(self, path: Path, *, threads: int | None = None) -> OpenVinoSession:
        """Open ``path``; ``threads`` computes one inference, all cores where None.

        Raises:
            UserError: not a model file, or it has an operator that OpenVINO does not know.
            MissingRequirementError: OpenVINO is not installed.
        """
        if _version() is None:
            raise MissingRequirementError("openvino is not installed", fix=INSTALL)
        if not path.is_file():
            raise UserError(
                f"no model file at {path}", fix="Check the path, or run: edgeport export"
            )
        return OpenVinoSession(self.name, path, threads)


class OpenVinoSession:
    """A model file compiled by OpenVINO; implements ``runtimes.base.Session``."""

    def __init__(self, runtime: str, path: Path, threads: int | None) -> None:
        self.runtime = runtime
        model = ModelFile(path)
        compiled = _compiled(model, threads)
        self.inputs = tuple(map(_tensor_info, compiled.inputs))
        self.outputs = tuple(
            replace(_tensor_info(port), name=value.name)
            for port, value in zip(compiled.outputs, model.proto.graph.output, strict=True)
        )
        self._request: Any = compiled.create_infer_request()

    def run(self, feeds: Feeds) -> dict[str, Array]:
        check_feeds(self.inputs, feeds)
        return self.execute(feeds)

    def execute(self, feeds: Feeds) -> dict[str, Array]:
        # the request's own buffers are overwritten by the next run, so outputs are copied
        values = self._request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        return {info.name: values[index] for index, info in enumerate(self.outputs)}

    def close(self) -> None:
        self._request = None


def _compiled(model: ModelFile, threads: int | None) -> Any:
    openvino = _import_silently()
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY",  # no BF16 where the graph says FP32
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    with tempfile.TemporaryDirectory() as directory:
        _, path = inlined_file(model, Path(directory))  # it knows no ONNX functions
        core = openvino.Core()
        try:
            return core.compile_model(core.read_model(path), _DEVICE, settings)
        except RuntimeError as error:
            raise _load_error(model.path, error) from error


def _import_silently() -> Any:
    """The ``openvino`` module, which takes a stub where it finds no telemetry package."""
    telemetry = "openvino_telemetry"
    if telemetry in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[telemetry] = None  # type: ignore[assignment]  # how Python spells "not importable"
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[telemetry]


def _load_error(path: Path, error: RuntimeError) -> UserError:
    """Its report without the source locations; the last paragraph names the operators."""
    lines = [line.strip() for line in str(error).splitlines()]
    words = " ".join(
        line for line in lines if line and "src/" not in line and not line.endswith(":")
    )
    return UserError(
        f"OpenVINO {_version()} does not take {path}: {words or ' '.join(lines)}",
        fix=f"Run it in ONNX Runtime: edgeport bench {path} --runtime onnxruntime",
    )


def _tensor_info(port: Any) -> TensorInfo:
    dims = tuple(d.get_length() if d.is_static else "?" for d in port.partial_shape)
    return TensorInfo(port.get_any_name(), port.element_type.to_dtype().name, dims)


def _version() -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("openvino")
    return None
