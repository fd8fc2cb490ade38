"""Peak resident memory of a piece of work, sampled from a thread."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

_INTERVAL_S = 0.01
_MIB = 1 << 20


class PeakMemory:
    """``with PeakMemory() as peak: …`` then ``peak.mib``: this process's peak in the block.

    The process's own high-water mark would include what ran before.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def mib(self) -> float:
        return self._peak_bytes / _MIB

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._process.memory_info().rss)
