"""Samples of power and conditions while a job runs: ``runner.pyz telemetry JOB_FOLDER``.

A process of its own, so that its work never holds the interpreter of the one that is timed. It
appends to the same log (one write a line, O_APPEND), and ends when its parent does.

    {"event": "telemetry", "clock_s", "power_w": {rail}, "power_s", "energy_j": {zone}, ...}

``clock_s`` is CLOCK_MONOTONIC, which all processes of a board share; ``power_s`` is when the power
was read, where that was earlier.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Dict, List, Optional, Tuple, Type

from .conditions import Conditions
from .journal import Journal
from .nvml import Nvml
from .power import Ina, Rapl, total_rails
from .streams import Stream, open_nvidia_smi, open_tegrastats
from .sysfs import Tree

PERIOD_S = 0.1
COUNTERS = ("nvml", "rapl", "nvml+rapl")
"""Sources that count energy; all others sample power."""

_NO_POWER = "no power monitor: neither INA sensors, tegrastats, NVML, nvidia-smi nor RAPL counters"
_NO_POWER_FIX = "Measure at the plug; virtual machines and many boards have no sensor at all"
_RAPL_FIX = "On the board: sudo chmod a+r /sys/class/powercap/*-rapl:*/energy_uj"
_FIRST_LINE_S = 2.0


class Sources:
    """What this board can be asked, opened once."""

    def __init__(self, root: str = "/", period_s: float = PERIOD_S) -> None:
        tree = Tree(root)
        self._conditions = Conditions(tree)
        self._ina = Ina(tree)
        self._rapl = Rapl(tree)
        self._nvml = Nvml()
        self._streams: List[Tuple[str, Stream]] = []
        for name, stream in (
            ("tegrastats", open_tegrastats()),
            ("nvidia-smi", open_nvidia_smi(period_s)),
        ):
            if stream is not None:
                self._streams.append((name, stream))
        self.power = self._choose()

    def _choose(self) -> Dict[str, Any]:
        """The one source that energy comes from, or why there is none."""
        rails = self._ina.read()
        if rails:
            return _described("ina", rails)
        if self._nvml.read():
            return self._counted("GPU boards")
        for name, stream in self._streams:
            rails = _first_line(stream).get("power_w", {})
            if rails and name == "nvidia-smi":
                return {"source": name, "rails": ["GPU"], "total": ["GPU"], "meaning": "GPU board"}
            if rails:
                return _described(name, rails)
        if self._rapl.read():
            return self._counted()
        if self._rapl.refused:
            return {"reason": "the RAPL counters may be read by root only", "fix": _RAPL_FIX}
        return {"reason": _NO_POWER, "fix": _NO_POWER_FIX}

    def _counted(self, *parts: str) -> Dict[str, Any]:
        """GPUs and CPU packages count apart from each other, so their sum is the work's."""
        zones = list(self._rapl.read())
        if zones:
            parts = (*parts, "CPU packages")
        if any("dram" in zone for zone in zones):
            parts = (*parts, "memory")
        names = [*self._nvml.read(), *zones]
        used = [source.name for source in (self._nvml, self._rapl) if source.read()]
        meaning = " and ".join(parts)
        return {"source": "+".join(used), "rails": names, "total": names, "meaning": meaning}

    def sample(self, pid: Optional[int] = None) -> Dict[str, Any]:
        """Everything now; ``pid`` is the process whose CPU time is its own."""
        found = self._conditions.read(pid)
        source = self.power.get("source", "")
        found["clock_s"] = time.monotonic()
        if source == "ina":
            found["power_w"] = self._ina.read()
        elif source in COUNTERS:
            found["energy_j"] = dict(self._nvml.read(), **self._rapl.read())
        for name, stream in self._streams:
            came_s, said = stream.newest()
            if name == source and "power_w" in said:
                found["power_w"], found["power_s"] = said["power_w"], came_s
            for kind in ("temperature_c", "clock_mhz", "load_percent", "alerts"):
                if kind in said:
                    found[kind] = dict(said[kind], **found.get(kind, {}))
        return found

    def limits(self) -> Dict[str, List[float]]:
        return self._conditions.limits()

    def close(self) -> None:
        self._nvml.close()
        for _, stream in self._streams:
            stream.close()


def _described(source: str, rails: Dict[str, float]) -> Dict[str, Any]:
    total = total_rails(rails)
    if total is None:
        reason = f"{source} has rails ({', '.join(rails)}) that nobody has told us how to add up"
        return {"reason": reason, "fix": "Tell us the board and its rails", "rails": list(rails)}
    return {"source": source, "rails": list(rails), "total": list(total[1]), "meaning": total[0]}


def _first_line(stream: Stream) -> Dict[str, Any]:
    deadline = time.monotonic() + _FIRST_LINE_S
    while time.monotonic() < deadline:
        came_s, said = stream.newest()
        if came_s is not None:
            return said
        time.sleep(0.02)
    return {}


def sample_until_stopped(folder: str, root: str, period_s: float) -> None:
    """Write samples to the log in ``folder`` until SIGTERM, or until the parent is gone."""
    parent, going = os.getppid(), [True]
    signal.signal(signal.SIGTERM, lambda _signal, _frame: going.clear())
    sources = Sources(root, period_s)
    log = Journal(os.path.join(folder, "log.jsonl"))
    log.write("telemetry_sources", power=sources.power, period_s=period_s, pid=os.getpid())
    due = time.monotonic()
    while going and os.getppid() == parent:
        log.write("telemetry", **sources.sample(parent))
        _say_ready()
        due = max(due + period_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    sources.close()
    log.close()


def _say_ready() -> None:
    """Tell the parent that samples come; once, for then nobody reads any more."""
    if not sys.stdout.closed:
        sys.stdout.write("ready\n")
        sys.stdout.close()


class Telemetry:
    """The sampler's process, for as long as the block; none where ``options`` is None."""

    def __init__(
        self,
        folder: str,
        options: Optional[Dict[str, Any]],
        runner: Optional[List[str]] = None,
    ) -> None:
        self._folder = folder
        self._runner = runner
        self._options = options
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> None:
        if self._options is None:
            return
        root, period_s = self._options["root"], self._options["period_s"]
        command = [
            *(self._runner or runner_command()),
            "telemetry",
            self._folder,
            root,
            str(period_s),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._process is None or self._options is None:
            return
        if kind is None:
            time.sleep(2 * self._options["period_s"])  # one sample after the end of the last block
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def runner_command() -> List[str]:
    """The command that started us: the interpreter and the file it runs."""
    return [sys.executable, os.path.abspath(sys.argv[0])]
