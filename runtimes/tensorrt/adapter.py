"""The TensorRT runtime: probe, preflight, build, load.

What can be known without a GPU is known from the real library: TensorRT-RTX parses and builds on
a CPU. An engine for a Jetson is built on that Jetson; asked for one elsewhere, this says so and
says what to type there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import EdgeportError, MissingRequirementError, UserError
from exporters.files import require_writable, sha256_file, written_atomically
from exporters.modelfile import ModelFile
from runtimes import cuda, passport, targets
from runtimes.base import (
    Availability,
    BuildOptions,
    Engine,
    Evidence,
    Finding,
    Passport,
    Progress,
    Session,
)
from runtimes.graphview import GraphView
from runtimes.rules import check_table, check_types
from runtimes.shapes import require_profile
from runtimes.signature import input_infos, output_infos
from runtimes.tensorrt.buildlog import BuildLog, build_failure
from runtimes.tensorrt.capability import Refusal, refused_nodes
from runtimes.tensorrt.findings import advised, hints_of, merged, parser_findings
from runtimes.tensorrt.foreign import refuse_foreign
from runtimes.tensorrt.installed import (
    INSTALL,
    MODULES,
    Installed,
    capabilities_of,
    require_stack,
    require_tensorrt,
)
from runtimes.tensorrt.prepare import (
    adds_when_scattering,
    exchanged,
    multiplies_integers,
    prepare,
)
from runtimes.tensorrt.selftest import refuse_adding, require_adding, scatters_and_adds
from runtimes.tensorrt.timing_cache import CacheKey, require_usable, store
from runtimes.tensorrt.wishes import recorded, request_of, require_possible
from runtimes.workers import Worker

if TYPE_CHECKING:
    import onnx


class TensorRT:
    """One adapter for TensorRT 10.x, 11.x and RTX; implements ``runtimes.base.Runtime``."""

    name = "tensorrt"

    def probe(self) -> Availability:
        installed = self._installed
        if isinstance(installed, EdgeportError):
            reason = installed.message
            return Availability(self.name, None, False, False, Evidence.WRITTEN, reason, INSTALL)
        problem = cuda.device_problem()
        return Availability(
            runtime=self.name,
            version=str(installed),
            can_build=not (installed.needs_gpu_to_build and problem),
            can_run=not problem,
            evidence=installed.evidence,
            reason=f"engines cannot be run here: {problem}" if problem else "",
            fix="Run engines on the machine with the GPU" if problem else "",
        )

    def installed(self) -> Installed | None:
        """The TensorRT on this machine, if any."""
        return self._installed if isinstance(self._installed, Installed) else None

    def preflight(self, model: ModelFile, target: str | None = None) -> list[Finding]:
        """All refusals of ``model``, from the target's own parser or else from the table.

        Where another TensorRT than the target's is installed its parser is still asked, and what
        it says becomes notes: a hint about the target, not a verdict.

        Raises:
            UserError: unknown target, or the model cannot be given to any TensorRT.
        """
        table = targets.load()
        wanted = table.get(target) if target else None
        stack = table.stack_of(wanted) if wanted else None
        installed = self.installed()
        findings: list[Finding] = []
        with tempfile.TemporaryDirectory(prefix="edgeport-") as scratch:
            proto, path = prepare(model, Path(scratch), adds=adds_when_scattering(stack, installed))
            if wanted is not None:
                findings += check_table(GraphView(proto), wanted, table)
            if installed is not None:
                decides = stack is None or installed.is_stack(stack)
                said = self._ask_parser(proto, path, Path(scratch), installed, decides)
                findings = merged(findings, said)
        if stack is not None:
            findings += hints_of(stack, installed)
        return [advised(finding) for finding in findings]

    def build(
        self,
        model: ModelFile,
        output: Path,
        options: BuildOptions | None = None,
        progress: Progress | None = None,
    ) -> Engine:
        """Build an engine and its passport in a child process; both appear or neither does.

        Raises:
            UserError: the model or an option is refused; the node and a substitute are named.
            MissingRequirementError: no TensorRT here, not the target's, or nowhere to write.
        """
        options = options or BuildOptions()
        require_writable(output, overwrite=options.overwrite)
        require_writable(passport.passport_path(output), overwrite=options.overwrite)
        installed, capabilities = self._builder_for(options)
        require_possible(options, installed, cuda.device_problem())
        key = CacheKey(installed.dialect, installed.version, cuda.device_identity())
        if options.timing_cache is not None:
            require_usable(options.timing_cache, key, strict=options.strict_timing_cache)
        log = BuildLog(progress)
        with tempfile.TemporaryDirectory(prefix="edgeport-") as scratch:
            adds = adds_when_scattering(None, installed)
            proto, path = prepare(model, Path(scratch), adds=adds)
            if not adds:
                refuse_adding(proto, str(installed))
            elif scatters_and_adds(proto):
                self._require_adding(installed, capabilities, options, Path(scratch))
            require_profile(input_infos(proto), options.shapes)
            _require_types(proto, options.target)
            measured = Path(scratch) / "timing.cache"
            with _both_written(output, options) as (engine, sidecar):
                request = _build_request(path, engine, measured, options, capabilities, installed)
                request["exact_floats"] = multiplies_integers(model)
                with _worker() as worker:
                    answer = worker.request(request, log, timeout_s=options.timeout_s)
                if not answer["built"]:
                    raise build_failure(proto.graph, model.path, answer["errors"], log, installed)
                if measured.is_file() and options.timing_cache is not None:
                    store(options.timing_cache, measured, key)
                made = Passport(
                    runtime=installed.dialect,
                    runtime_version=installed.version,
                    evidence=Evidence.BUILT,
                    compute_capabilities=capabilities,
                    model_sha256=model.sha256,
                    **_measured(engine, answer["build_s"], log, proto),
                    target=options.target,
                    model=passport.model_summary(model),
                    options=recorded(options) | exchanged(model, adds=adds),
                )
                sidecar.write_text(passport.dump(made), encoding="utf-8")
        log.report(100)
        return Engine(output, made)

    def load(self, path: Path, *, threads: int | None = None) -> Session:
        """Load an engine onto this machine's CUDA device; ``threads`` means nothing to a GPU.

        Raises:
            UserError: no passport, or one of another file, builder or version.
            MissingRequirementError: no TensorRT, CUDA device or cuda-python here.
        """
        del threads
        if path.is_file() and not passport.passport_path(path).is_file():
            raise refuse_foreign(path, str(self.installed() or "no TensorRT"))
        papers = passport.read_passport(path)
        installed = self._require_installed()
        passport.require_same_runtime(path, papers, installed.dialect, installed.version)
        passport.require_same_gpu(path, papers, cuda.compute_capability())
        _require_weights(path, papers)
        cuda.require_device()
        from runtimes.tensorrt.session import load_session

        return load_session(path, installed.module)

    @cached_property
    def _installed(self) -> Installed | EdgeportError:
        """What a worker finds, asked once; the reason where it finds nothing."""
        try:
            with _worker() as worker:
                answer = worker.request({"do": "probe", "modules": MODULES})
        except EdgeportError as error:
            return error
        return Installed(answer["module"], answer["version"], answer["dialect"])

    def _require_installed(self) -> Installed:
        found = self._installed
        if isinstance(found, EdgeportError):
            raise MissingRequirementError(found.message, fix=found.fix or INSTALL)
        return found

    def _builder_for(self, options: BuildOptions) -> tuple[Installed, tuple[str, ...]]:
        """The installed builder, if it can build for the target, and the compute capabilities."""
        if options.target is None:
            return self._require_installed(), options.compute_capabilities
        table = targets.load()
        target = table.get(options.target)
        stack, device = table.stack_of(target), table.device_of(target)
        require_tensorrt(target, stack)
        capabilities = capabilities_of(options, device, stack)
        return require_stack(target, stack, device, self.installed()), capabilities

    def _require_adding(
        self,
        installed: Installed,
        capabilities: tuple[str, ...],
        options: BuildOptions,
        scratch: Path,
    ) -> None:
        """Evidence: written. Whoever builds for TensorRT 10 and later has the GPU to ask."""
        from runtimes.tensorrt.session import load_session

        plain = BuildOptions(target=options.target, timeout_s=options.timeout_s)

        def build(model: Path, engine: Path) -> None:
            request = _build_request(model, engine, engine, plain, capabilities, installed)
            with _worker() as worker:
                worker.request(request, BuildLog(None), timeout_s=options.timeout_s)

        def load(engine: Path) -> Session:
            return load_session(engine, installed.module)

        require_adding(scratch, build, load, str(installed))

    def _ask_parser(
        self,
        proto: onnx.ModelProto,
        path: Path,
        scratch: Path,
        installed: Installed,
        decides: bool,
    ) -> list[Finding]:
        with _worker() as worker:

            def parse(file: Path) -> list[Refusal]:
                request = {
                    "do": "parse",
                    "modules": [installed.module],
                    "model": str(file.resolve()),
                }
                return [Refusal(**error) for error in worker.request(request)["errors"]]

            capability = refused_nodes(proto, path, scratch, parse)
        return parser_findings(capability, str(installed), decides)


def _require_weights(path: Path, papers: Passport) -> None:
    if papers.options.get("strip_weights"):
        raise UserError(
            f"{path} was built without weights; it computes nothing before it is refitted",
            fix="Refit it with TensorRT's OnnxParserRefitter in your application, or build it "
            "again without --strip-weights",
        )


def _require_types(proto: onnx.ModelProto, target: str | None) -> None:
    """Refuse BF16, FP8 or INT4 where the target's hardware or software has none."""
    if target is None:
        return
    table = targets.load()
    for finding in check_types(GraphView(proto), table.get(target), table):
        node = f" at node {finding.node!r} ({finding.op_type})" if finding.op_type else ""
        raise UserError(
            f"{finding.message}{node} [{finding.source}]",
            fix=finding.fix or "Quantize to INT8 instead, or cast: edgeport cast --to fp16",
        )


def _worker() -> Worker:
    return Worker("runtimes.tensorrt.worker", "TensorRT builder")


def _build_request(
    model: Path,
    engine: Path,
    measured: Path,
    options: BuildOptions,
    capabilities: tuple[str, ...],
    installed: Installed,
) -> dict[str, Any]:
    return {
        "do": "build",
        "modules": [installed.module],
        "model": str(model.resolve()),
        "engine": str(engine.resolve()),
        "compute_capabilities": capabilities,
        **request_of(options),
        "save_timing_cache": _new_times(measured, options),
    }


def _new_times(measured: Path, options: BuildOptions) -> str | None:
    """Where the worker writes kernel times; a strict build has measured none."""
    wanted = options.timing_cache is not None and not options.strict_timing_cache
    return str(measured.resolve()) if wanted else None


def _measured(
    engine: Path, build_s: float, log: BuildLog, proto: onnx.ModelProto
) -> dict[str, Any]:
    """What a passport says that only the finished build knows."""
    return {
        "engine_sha256": sha256_file(engine),
        "size_bytes": engine.stat().st_size,
        "build_s": round(build_s, 3),
        "log": log.figures(),
        "inputs": input_infos(proto),
        "outputs": output_infos(proto),
    }


@contextmanager
def _both_written(output: Path, options: BuildOptions) -> Iterator[tuple[Path, Path]]:
    sidecar = passport.passport_path(output)
    with (
        written_atomically(output, overwrite=options.overwrite) as engine,
        written_atomically(sidecar, overwrite=options.overwrite) as papers,
    ):
        yield engine, papers
