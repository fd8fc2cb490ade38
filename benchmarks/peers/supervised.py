"""Running a command and watching what it takes: wall time, and memory with all of its children.

Resident memory is summed over the process tree every 50 ms and its largest sum kept; pages that
processes share count in each of them. A command over its limit of time or memory is ended: some
tools would otherwise take the machine down with them.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL_S = 0.05
_GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What a command may take before it is ended."""

    seconds: float = 1800.0
    rss_gib: float = 11.0


@dataclass(frozen=True)
class Supervised:
    """How a command went.

    Attributes:
        returncode: of the process; None where it was ended for a limit.
        stopped: which limit that was; empty otherwise.
        peak_rss_gib: largest sum over the process and its children.
        log: the last lines of what it printed.
    """

    returncode: int | None
    stopped: str
    wall_s: float
    peak_rss_gib: float
    log: str


def supervise(
    command: Sequence[str], limits: Limits, environment: Mapping[str, str], folder: Path
) -> Supervised:
    """Run ``command`` in ``folder`` to its end or to a limit."""
    started = time.monotonic()
    peak = 0
    stopped = ""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=dict(environment), cwd=folder
        )
        try:
            while process.poll() is None:
                peak = max(peak, _tree_rss(process.pid))
                stopped = _limit_passed(peak, time.monotonic() - started, limits)
                if stopped:
                    break
                time.sleep(INTERVAL_S)
        finally:
            _end_tree(process)
        wall_s = time.monotonic() - started
        return Supervised(
            returncode=None if stopped else process.returncode,
            stopped=stopped,
            wall_s=round(wall_s, 2),
            peak_rss_gib=round(peak / _GIB, 3),
            log=_tail(log.fileno()),
        )


def _limit_passed(rss_bytes: int, seconds: float, limits: Limits) -> str:
    if rss_bytes > limits.rss_gib * _GIB:
        return f"stopped: memory above {limits.rss_gib:g} GiB"
    if seconds > limits.seconds:
        return f"stopped: more than {limits.seconds:g} s"
    return ""


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _tree_rss(pid: int) -> int:
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # noqa: PERF203 - it ended between the two questions
            continue
    return total


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children, where it still runs, and collect it."""
    if process.poll() is None:
        for one in reversed(_tree(process.pid)):
            try:
                one.kill()
            except psutil.NoSuchProcess:  # noqa: PERF203
                continue
    process.wait()


def _tail(descriptor: int, size: int = 4000) -> str:
    with open(descriptor, "rb", closefd=False) as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - size))
        return stream.read().decode(errors="replace")
