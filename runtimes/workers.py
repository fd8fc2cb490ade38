"""A child process that answers requests in JSON lines: where foreign libraries run.

Builders abort the process, print to stdout and accept one logger for life; benchmarks need memory
that is nobody else's. Both therefore run in a child of their own. Killing it is always safe: the
parent owns every output file, and a child whose parent is gone ends by itself (``serving``).

The child is ``python -I``: neither the working directory nor ``PYTHONPATH`` comes first, so a
folder ``runtimes/`` that the user happens to stand in can never be imported instead of ours.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from exporters.errors import EdgeportError, MissingRequirementError, UserError

Message = dict[str, Any]
OnEvent = Callable[[Message], None]

_BOOT = (
    "import importlib, json, sys; boot = json.loads(sys.argv[1]); "
    "sys.path.insert(0, boot['root']); sys.path.extend(boot['path']); "
    "importlib.import_module(boot['module']).main()"
)
_ERRORS: dict[str, type[EdgeportError]] = {
    kind.__name__: kind for kind in (EdgeportError, UserError, MissingRequirementError)
}
_STDERR_LINES = 12
_GRACE_S = 5.0


class WorkerDiedError(MissingRequirementError):
    """The child process ended without an answer: killed, out of memory, or a library aborted."""


class WorkerTimeoutError(UserError):
    """The child process was killed because the caller's time limit passed."""


class Worker:
    """One child process; use it as a context manager.

    Args:
        module: dotted name of a module with a ``main()`` that calls ``serving.serve``.
        title: what the child is to a person, ``TensorRT builder``; used in errors.
    """

    def __init__(self, module: str, title: str) -> None:
        self._title = title
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, json.dumps(_boot(module))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches the parent only, which then kills the child
        )
        self._inbox: queue.Queue[Message | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def request(
        self, message: Message, on_event: OnEvent | None = None, timeout_s: float | None = None
    ) -> Message:
        """Send ``message``; return the answer, passing events that come before it to ``on_event``.

        Raises:
            EdgeportError: what the child raised, with its class, words and fix.
            WorkerTimeoutError: no answer in ``timeout_s``; the child is dead afterwards.
            WorkerDiedError: the child ended instead of answering.
        """
        self._send(message)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while True:
                event = self._receive(deadline, timeout_s)
                if event["event"] == "result":
                    return event
                if event["event"] == "error":
                    raise _ERRORS[event["type"]](event["message"], fix=event["fix"])
                if on_event is not None:
                    on_event(event)
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """End the child now, whatever it does; harmless when it has ended already."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(timeout=_GRACE_S)
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            _close_quietly(stream)

    def _send(self, message: Message) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self, deadline: float | None, limit_s: float | None) -> Message:
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            event = self._inbox.get(timeout=wait_s)
        except queue.Empty:
            self.kill()
            raise WorkerTimeoutError(
                f"the {self._title} did not finish within {limit_s:g} s and was stopped",
                fix="Allow more time with --timeout SECONDS",
            ) from None
        if event is None:
            raise self._died()
        return event

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._inbox.put(json.loads(line))
        except ValueError:  # a line cut off by death, or the pipe closed under us
            pass
        self._inbox.put(None)

    def _died(self) -> WorkerDiedError:
        try:
            code = self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            code = 0
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-_STDERR_LINES:]
        said = f"; its last words: {' | '.join(last)}" if last else ""
        fix = ""
        if code == -signal.SIGKILL:
            fix = "It was killed from outside, most often for want of memory: free some and repeat"
        return WorkerDiedError(f"the {self._title} process {_cause(code)}{said}", fix=fix)


def _boot(module: str) -> Mapping[str, Any]:
    root = str(Path(__file__).resolve().parent.parent)
    seen = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return {"root": root, "path": seen, "module": module}


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _close_quietly(stream: IO[Any] | None) -> None:
    if stream is not None:
        with contextlib.suppress(BrokenPipeError):  # unsent bytes to a child that is gone
            stream.close()
