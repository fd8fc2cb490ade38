"""The child's side of ``workers``: read JSON lines, answer JSON lines, end with the parent."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from exporters.errors import EdgeportError

Message = dict[str, Any]
Emit = Callable[[Message], None]
Handler = Callable[[Message, Emit], Message]
"""``handler(request, emit)`` returns the answer; ``emit`` sends events that come before it."""


def serve(handler: Handler) -> None:
    """Answer requests until the parent closes our stdin, or dies.

    File descriptor 1 becomes stderr first: whatever a library prints must not look like an answer.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()  # builders call their loggers from several threads

    def emit(message: Message) -> None:
        with lock:
            channel.write(json.dumps(message) + "\n")

    requests: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        emit(_answer(handler, requests.get(), emit))


def _read(requests: queue.Queue[Message]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    # The parent closed the pipe or is gone; a build of minutes must not go on for nobody.
    os._exit(0)


def _answer(handler: Handler, request: Message, emit: Emit) -> Message:
    try:
        return {"event": "result", **handler(request, emit)}
    except EdgeportError as error:
        return _error(error)
    except Exception as error:  # the parent must learn of a bug in words
        return _error(EdgeportError(f"{error!r} in a child process\n{traceback.format_exc()}"))


def _error(error: EdgeportError) -> Message:
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _SENT)
    return {"event": "error", "type": known, "message": error.message, "fix": error.fix}


_SENT = ("UserError", "MissingRequirementError", "EdgeportError")
