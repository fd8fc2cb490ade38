"""The child process of an end-to-end benchmark: frames of one source through one file.

{"do": "load", "path", "runtime", "threads", "model", "describe", "source", "post"}
{"do": "frame", "index": i}     milliseconds of every step of one frame
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from calibration.samples.base import Array
from calibration.samples.sets import spec_for
from deploy.endtoend.preparing import Preparing
from exporters.spans import ENGINE, span
from runtimes import registry
from runtimes.base import Session
from runtimes.serving import Emit, Message, serve


class _Server:
    def __init__(self) -> None:
        self._session: Session | None = None
        self._frames: Preparing | None = None

    def handle(self, request: Message, _emit: Emit) -> Message:
        return getattr(self, f"_{request['do']}")(request)  # type: ignore[no-any-return]

    def _load(self, request: Message) -> Message:
        describe = request["describe"] and Path(request["describe"])
        spec = spec_for(Path(request["model"]), None, describe, source=request["source"])
        self._frames = Preparing(spec, request["source"], request["post"])
        started = time.perf_counter()
        runtime = registry.get(request["runtime"])
        self._session = runtime.load(Path(request["path"]), threads=request["threads"])
        load_s = time.perf_counter() - started
        self._session.run(self._frames.feeds(0))  # checked here, so timing need not
        frames = self._frames
        return {"load_s": load_s, "frames": frames.count, "answers": frames.answers}

    def _frame(self, request: Message) -> Message:
        assert self._frames is not None
        return {"ms": dict(self._frames.frame(request["index"], self._executed).steps_ms)}

    def _executed(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, float]]:
        assert self._session is not None
        with span(ENGINE):
            return self._session.execute(feeds), {}


def main() -> None:
    serve(_Server().handle)
