"""Peak resident memory of a piece of work, sampled from a thread."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil

_INTERVAL_S = 0.01
_TREE_INTERVAL_S = 0.2  # finding the children reads all of /proc
_MIB = 1 << 20


class PeakMemory:
    """``with PeakMemory() as peak: …`` then ``peak.mib``: this process's peak in the block.

    The process's own high-water mark would include what ran before.

    Args:
        children: count the processes that this one started too, less often.
    """

    def __init__(self, *, children: bool = False) -> None:
        self._process = psutil.Process()
        self._children = children
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
        while not self._stop.wait(_TREE_INTERVAL_S if self._children else _INTERVAL_S):
            self._look()

    def _look(self) -> None:
        tree = [self._process]
        if self._children:
            tree += self._process.children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            self._peak_bytes = max(self._peak_bytes, sum(p.memory_info().rss for p in tree))
