"""The child process of a benchmark: one session, its feeds, and nothing else in memory.

{"do": "load", "path", "runtime", "threads", "feeds": NPZ}
{"do": "run", "sample": i}      latency of one run, measured in here
{"do": "loadgen", "scenario", "queries", "seconds", "folder"}    MLPerf's LoadGen asks
{"do": "memory"}                peak of this process, and what it was before the model came
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from runtimes import registry
from runtimes.base import Array, Session
from runtimes.serving import Emit, Message, serve

_STATUS = Path("/proc/self/status")


class _Server:
    def __init__(self) -> None:
        self._session: Session | None = None
        self._samples: list[dict[str, Array]] = []
        self._baseline_mib = 0.0

    def handle(self, request: Message, _emit: Emit) -> Message:
        return getattr(self, f"_{request['do']}")(request)  # type: ignore[no-any-return]

    def _load(self, request: Message) -> Message:
        self._samples = read_feeds(Path(request["feeds"]))
        runtime = registry.get(request["runtime"])
        runtime.probe()  # imports the library, so that the baseline holds its code
        self._baseline_mib = peak_rss_mib()
        started = time.perf_counter()
        self._session = runtime.load(Path(request["path"]), threads=request["threads"])
        load_s = time.perf_counter() - started
        for sample in self._samples:
            self._session.run(sample)  # checked once here, so that timing need not
        return {"load_s": load_s}

    def _run(self, request: Message) -> Message:
        assert self._session is not None
        feeds = self._samples[request["sample"] % len(self._samples)]
        started = time.perf_counter()
        self._session.execute(feeds)
        return {"latency_s": time.perf_counter() - started}

    def _loadgen(self, request: Message) -> Message:
        from runtimes.loadgen import generate

        assert self._session is not None
        return generate(self._session.execute, self._samples, request)

    def _memory(self, _request: Message) -> Message:
        return {"peak_rss_mib": peak_rss_mib(), "baseline_rss_mib": self._baseline_mib}


def peak_rss_mib() -> float:
    """Largest resident size this process ever had.

    VmHWM and not ``ru_maxrss``: the latter starts with the size of the parent that forked us.
    """
    try:
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20, 1)


def write_feeds(path: Path, samples: list[dict[str, Array]]) -> None:
    """Samples in one ``.npz``, keyed ``index:name``; all of a benchmark's inputs, few samples."""
    arrays: dict[str, Any] = {
        f"{index}:{name}": array
        for index, feeds in enumerate(samples)
        for name, array in feeds.items()
    }
    np.savez(path, **arrays)


def read_feeds(path: Path) -> list[dict[str, Array]]:
    samples: dict[int, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            index, name = key.split(":", 1)
            samples.setdefault(int(index), {})[name] = archive[key]
    return [samples[index] for index in sorted(samples)]


def main() -> None:
    serve(_Server().handle)
