"""The child process that builds: the only place, sessions apart, that imports TensorRT.

It lives for a few requests, so that its single logger, its aborts and its memory are its own.
It needs nothing but TensorRT and the standard library: the parent has prepared the ONNX file.

    {"do": "probe"}                 who is installed, in which dialect
    {"do": "parse", "model": PATH}  what the parser says, node by node
    {"do": "build", "model": PATH, "engine": PATH, ...}
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporters.errors import MissingRequirementError
from runtimes.serving import Emit, Message, serve
from runtimes.tensorrt.configuring import configure, save_timing_cache
from runtimes.tensorrt.dialects import Dialect, dialect_for

_SEVERITIES = ("internal error", "error", "warning", "info", "verbose")
_LOGGED = 3  # up to info: there the builder reports its memory figures
_PROGRESS_EVERY_S = 0.05


class _Server:
    """The imported module, its dialect and its one logger, kept from request to request."""

    def __init__(self) -> None:
        self._dialect: Dialect | None = None
        self._logger: Any = None
        self._emit: Emit = lambda _message: None

    def handle(self, request: Message, emit: Emit) -> Message:
        self._emit = emit
        if self._dialect is None:
            self._dialect = dialect_for(import_backend(request["modules"]))
            self._logger = make_logger(self._dialect.module, self._forward)
        return getattr(self, f"_{request['do']}")(self._dialect, request)  # type: ignore[no-any-return]

    def _forward(self, severity: str, text: str) -> None:
        self._emit({"event": "log", "severity": severity, "text": text})

    def _probe(self, dialect: Dialect, _request: Message) -> Message:
        module = dialect.module
        return {"module": module.__name__, "version": module.__version__, "dialect": dialect.name}

    def _parse(self, dialect: Dialect, request: Message) -> Message:
        builder = dialect.module.Builder(self._logger)
        network = dialect.create_network(builder)
        parser = dialect.module.OnnxParser(network, self._logger)
        parsed = parser.parse_from_file(request["model"])
        return {"parsed": parsed, "errors": _errors(parser)}

    def _build(self, dialect: Dialect, request: Message) -> Message:
        started = time.monotonic()
        # builder, network and parser must all stay referenced until the build is over
        builder = dialect.module.Builder(self._logger)
        network = dialect.create_network(builder)
        parser = dialect.module.OnnxParser(network, self._logger)
        if not parser.parse_from_file(request["model"]):
            return {"built": False, "errors": _errors(parser)}
        config = builder.create_builder_config()
        configure(dialect, builder, network, config, request)
        monitor = _make_monitor(dialect.module, self._emit)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            return {"built": False, "errors": []}
        with Path(request["engine"]).open("wb") as stream:
            stream.write(plan)
        if request["save_timing_cache"] is not None:
            save_timing_cache(config, Path(request["save_timing_cache"]))
        return {"built": True, "errors": [], "build_s": time.monotonic() - started}


def import_backend(names: list[str]) -> Any:
    """The first of ``names`` that imports.

    Raises:
        MissingRequirementError: none does; the reason of each is in the message.
    """
    reasons = []
    for name in names:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # noqa: PERF203 - OSError: a library is missing
            reasons.append(f"{name}: {error}")
    raise MissingRequirementError(f"no TensorRT can be imported ({'; '.join(reasons)})")


def _errors(parser: Any) -> list[Message]:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return [
        {"message": e.desc(), "node": e.node_name(), "op_type": e.node_operator()} for e in errors
    ]


def make_logger(module: Any, forward: Callable[[str, str], None]) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= _LOGGED:
                forward(_SEVERITIES[int(severity)], text)

    return Logger()


def _make_monitor(module: Any, emit: Emit) -> Any:
    progress = NestedProgress()

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self._sent_s = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            progress.step(name, step)
            now = time.monotonic()
            if now - self._sent_s > _PROGRESS_EVERY_S:
                self._sent_s = now
                emit({"event": "progress", "percent": progress.percent()})
            return True

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()


class NestedProgress:
    """One rising percentage from nested phases: a phase fills the current step of its parent.

    With phase p at step s of n, ``fraction(p) = (s + fraction(child of p)) / n``. Phases come and
    go several times within one step of their parent, so the result is kept from falling.
    """

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, done, steps
        self._best = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = (parent, 0, max(1, steps))

    def step(self, name: str, step: int) -> None:
        if name in self._phases:
            parent, _done, steps = self._phases[name]
            self._phases[name] = (parent, min(step + 1, steps), steps)

    def finish(self, name: str) -> None:
        self._phases.pop(name, None)

    def percent(self) -> int:
        roots = [name for name, (parent, _, _) in self._phases.items() if parent is None]
        if roots:
            self._best = max(self._best, self._fraction(roots[0]))
        return int(100 * self._best)

    def _fraction(self, name: str) -> float:
        _parent, done, steps = self._phases[name]
        children = [child for child, (parent, _, _) in self._phases.items() if parent == name]
        inner = max((self._fraction(child) for child in children), default=0.0)
        return min(1.0, (done + inner) / steps)


def main() -> None:
    serve(_Server().handle)
