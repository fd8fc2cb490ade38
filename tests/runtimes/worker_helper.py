"""A worker for the tests: it counts, fails, prints, sleeps and dies on request."""

from __future__ import annotations

import os
import sys
import time

import exporters.errors
from runtimes.serving import Emit, Message, serve


def handle(request: Message, emit: Emit) -> Message:
    action = request["do"]
    if action == "count":
        for step in range(1, request["to"] + 1):
            emit({"event": "progress", "step": step})
        return {"sum": request["to"] * (request["to"] + 1) // 2}
    if action == "fail":
        raise getattr(exporters.errors, request["kind"])("it failed at node 'n'", fix="Do that")
    if action == "print":
        os.write(1, b'{"event": "result", "printed": false}\n')
        sys.stdout.write("not JSON\n")
        return {"printed": True}
    if action == "sleep":
        time.sleep(60)
    if action == "abort":
        os.write(2, b"terminate called without an active exception\n")
        os.abort()
    return {"impossible": 1 // 0}


def main() -> None:
    serve(handle)
