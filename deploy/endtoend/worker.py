"""The child process of an end-to-end benchmark: frames of one source through one file.

{"do": "load", "path", "runtime", "threads", "model", "describe", "source", "post"}
{"do": "frame", "index": i}     milliseconds of every step of one frame
"""

from __future__ import annotations

import time
from pathlib import Path

from calibration.samples.base import Source, inputs_of
from calibration.samples.sets import spec_for
from deploy.endtoend.answers import Answer, answer_of
from deploy.endtoend.frames import open_frames
from exporters.errors import UserError
from exporters.spans import ENGINE, POST, listening, span
from exporters.streaming import Stream
from runtimes import registry
from runtimes.base import Session
from runtimes.serving import Emit, Message, serve


class _Server:
    def __init__(self) -> None:
        self._session: Session | None = None
        self._source: Source | None = None
        self._stream: Stream | None = None
        self._answer: Answer | None = None

    def handle(self, request: Message, _emit: Emit) -> Message:
        return getattr(self, f"_{request['do']}")(request)  # type: ignore[no-any-return]

    def _load(self, request: Message) -> Message:
        describe = request["describe"] and Path(request["describe"])
        spec = spec_for(Path(request["model"]), None, describe, source=request["source"])
        self._source = open_frames(request["source"], spec)
        if not len(self._source):
            raise UserError(f"{request['source']} holds no frame")
        self._answer = answer_of(spec, request["post"])
        started = time.perf_counter()
        runtime = registry.get(request["runtime"])
        self._session = runtime.load(Path(request["path"]), threads=request["threads"])
        load_s = time.perf_counter() - started
        self._stream = Stream(spec, self._session.execute) if spec.states else None
        first = inputs_of(self._source.sample(0))
        if self._stream is not None:
            first = self._stream.feeds(first)
        self._session.run(first)  # checked here, so timing need not
        return {"load_s": load_s, "frames": len(self._source), "answers": self._answer is not None}

    def _frame(self, request: Message) -> Message:
        assert self._session is not None
        assert self._source is not None
        with listening() as spans:
            sample = self._source.sample(request["index"] % len(self._source))
            feeds = inputs_of(sample)
            with span(ENGINE):
                # what is remembered may be of another drive, which costs the same
                run = self._session.execute if self._stream is None else self._stream.run
                outputs = run(feeds)
            if self._answer is not None:
                with span(POST):
                    self._answer(outputs)
        return {"ms": {name: 1e3 * seconds for name, seconds in spans.seconds.items()}}


def main() -> None:
    serve(_Server().handle)
