"""Programs that print a line a period: the newest line, and when it came."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from .tegrastats import COMMAND as TEGRASTATS
from .tegrastats import parse_tegrastats

_QUERY = ("power.draw", "temperature.gpu", "clocks.sm", "clocks.mem")
_PLACES = (
    ("power_w", "GPU"),
    ("temperature_c", "gpu"),
    ("clock_mhz", "gpu"),
    ("clock_mhz", "memory"),
)
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # new name, old name
NVIDIA_SMI = "nvidia-smi"
THROTTLED = 0x8 | 0x20 | 0x40 | 0x80
"""HW slowdown, SW thermal, HW thermal, HW power brake: NVML, clocks event reasons."""


class Stream:
    """A program that runs until ``close``; its last line, parsed."""

    def __init__(self, command: Sequence[str], parse: Callable[[str], Dict[str, Any]]) -> None:
        self._parse = parse
        self._last: Optional[Tuple[float, str]] = None
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._last = (time.monotonic(), line)

    def newest(self) -> Tuple[Optional[float], Dict[str, Any]]:
        """When the last line came, in seconds of the monotonic clock, and what it says."""
        last = self._last
        return (None, {}) if last is None else (last[0], self._parse(last[1]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=1.0)
        assert self._process.stdout is not None
        self._process.stdout.close()


def open_tegrastats() -> Optional[Stream]:
    return Stream(TEGRASTATS, parse_tegrastats) if shutil.which(TEGRASTATS[0]) else None


def open_nvidia_smi(period_s: float) -> Optional[Stream]:
    """GPUs with a driver of their own; the integrated ones of Jetsons answer [N/A] to most."""
    if not shutil.which(NVIDIA_SMI):
        return None
    for reasons in _REASONS:
        query = [NVIDIA_SMI, f"--query-gpu={','.join((*_QUERY, reasons))}"]
        query += ["--format=csv,noheader,nounits", "--id=0"]
        asked = subprocess.run(
            query, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if asked.returncode == 0:
            return Stream([*query, f"--loop-ms={int(1e3 * period_s)}"], parse_nvidia_smi)
    return None


def parse_nvidia_smi(line: str) -> Dict[str, Any]:
    """``71.2, 45, 1980, 2619, 0x0000000000000000``; a field that is not available is left out."""
    fields = [field.strip() for field in line.split(",")]
    found: Dict[str, Any] = {"power_w": {}, "temperature_c": {}, "clock_mhz": {}}
    for (kind, name), field in zip(_PLACES, fields):
        try:
            found[kind][name] = float(field)
        except ValueError:
            continue
    if len(fields) > len(_PLACES) and fields[-1].startswith("0x"):
        found["alerts"] = {"gpu": int(bool(int(fields[-1], 16) & THROTTLED))}
    return {key: values for key, values in found.items() if values}
