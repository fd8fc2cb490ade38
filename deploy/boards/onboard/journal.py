"""What a job leaves behind while it runs: one JSON line an event, and a lock on the board.

The host reads the log through a connection that may break at any time, so the job never waits for
a reader, and the last line says how it ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from types import TracebackType
from typing import IO, Any, Optional, Type


class BoardError(Exception):
    """Something the user can act on; travels to the host as message and fix."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class Journal:
    """Appends events to ``log.jsonl``, each flushed at once."""

    def __init__(self, path: str) -> None:
        self._file: IO[str] = open(path, "a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        self._file.write(json.dumps({"event": event, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


class BoardLock:
    """One measurement at a time on a board; the kernel frees the lock when its holder dies."""

    def __init__(self, path: str, journal: Journal, timeout_s: float) -> None:
        self._path = path
        self._journal = journal
        self._timeout_s = timeout_s
        self._file: Optional[IO[str]] = None

    def __enter__(self) -> BoardLock:
        self._file = open(self._path, "a+", encoding="utf-8")
        deadline = time.monotonic() + self._timeout_s
        told = False
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._wait(deadline, told)
                told = True
            else:
                break
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return self

    def fileno(self) -> int:
        """The locked file; who inherits it holds the lock too."""
        assert self._file is not None
        return self._file.fileno()

    def _wait(self, deadline: float, told: bool) -> None:
        assert self._file is not None
        self._file.seek(0)
        holder = self._file.read().strip()
        if time.monotonic() > deadline:
            raise BoardError(
                f"another run (process {holder}) has been measuring on this board for "
                f"{self._timeout_s:.0f} s",
                "Wait for it, or end it on the board",
            )
        if not told:
            self._journal.write("waiting", holder=holder)
        time.sleep(0.2)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        assert self._file is not None
        self._file.close()
