"""What a latency depends on and does not show: clocks, temperatures, throttling, other load.

Sources: Linux, Documentation/ABI/testing/sysfs-class-thermal and sysfs-devices-system-cpu, devfreq,
proc(5); NVIDIA's Jetson Linux Developer Guide for the over-current counters of ``soctherm_oc`` and
the ``*-throttle-alert`` cooling devices.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Tuple

from .sysfs import Tree
from .tegrastats import SWITCHED_OFF_C

_GPU = re.compile(r"gpu|ga10b|gv11b|gp10b")
_EMC = "/sys/kernel/debug/bpmp/debug/clk/emc/rate"  # root only
_CPUFREQ = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
_TICKS_HZ = os.sysconf("SC_CLK_TCK")


class Conditions:
    """Everything but power, below one root; ``read`` takes a few file reads."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones = _named(tree, "/sys/class/thermal/thermal_zone*", "/temp")
        cooling = _named(tree, "/sys/class/thermal/cooling_device*", "/cur_state")
        self._alerts = [(name, path) for name, path in cooling if name.endswith("-throttle-alert")]
        self._trips = _trips(tree)
        self._cpu = [folder + "/scaling_cur_freq" for folder in tree.glob(_CPUFREQ)]
        self._gpu = [p for p in tree.glob("/sys/class/devfreq/*") if _GPU.search(p)]

    def read(self, pid: Optional[int] = None) -> Dict[str, Any]:
        """What can be had now.

        Args:
            pid: whose CPU time is told apart from the rest of the board's.

        Returns:
            ``temperature_c`` and ``clock_mhz`` by name, ``alerts`` (state, 0 is off), ``trips``
            (counters), ``busy_s`` (CPU seconds of all since it was switched on) and ``own_s``.
        """
        found: Dict[str, Any] = {
            "temperature_c": self._temperatures(),
            "clock_mhz": self.clocks(),
            "alerts": self._numbers(self._alerts),
            "trips": self._numbers(self._trips),
            "busy_s": busy_seconds(self._tree.text("/proc/stat") or ""),
            "own_s": None if pid is None else own_seconds(self._tree.text(f"/proc/{pid}/stat")),
        }
        return {key: value for key, value in found.items() if value not in ({}, None)}

    def clocks(self) -> Dict[str, float]:
        """MHz of the fastest core, the fastest GPU domain and, for root, the memory."""
        cpu = [khz / 1e3 for path in self._cpu for khz in [self._tree.number(path)] if khz]
        if not cpu:  # a virtual machine has no cpufreq
            text = self._tree.text("/proc/cpuinfo") or ""
            cpu = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
        gpu = [hz / 1e6 for p in self._gpu for hz in [self._tree.number(p + "/cur_freq")] if hz]
        emc = self._tree.number(_EMC)
        clocks = {"cpu": max(cpu, default=0.0), "gpu": max(gpu, default=0.0)}
        clocks["emc"] = (emc or 0.0) / 1e6
        return {name: mhz for name, mhz in clocks.items() if mhz}

    def limits(self) -> Dict[str, List[float]]:
        """Lowest and highest MHz that the kernel may choose now; the same where clocks are held."""
        found: Dict[str, List[float]] = {}
        for path in self._tree.glob(_CPUFREQ):
            low = self._tree.number(path + "/scaling_min_freq")
            high = self._tree.number(path + "/scaling_max_freq")
            if low and high:
                found["cpu" + path.split("/cpu/cpu")[1].split("/")[0]] = [low / 1e3, high / 1e3]
        for path in self._gpu:
            low = self._tree.number(path + "/min_freq")
            high = self._tree.number(path + "/max_freq")
            if low is not None and high:
                found[path.rsplit("/", 1)[1]] = [low / 1e6, high / 1e6]
        return found

    def _temperatures(self) -> Dict[str, float]:
        values = {name: milli / 1e3 for name, milli in self._numbers(self._zones).items()}
        return {name: value for name, value in values.items() if value > SWITCHED_OFF_C}

    def _numbers(self, paths: List[Tuple[str, str]]) -> Dict[str, float]:
        read = ((name, self._tree.number(path)) for name, path in paths)
        return {name: value for name, value in read if value is not None}


def busy_seconds(stat: str) -> Optional[float]:
    """CPU seconds that all processes have used: user, nice, system, irq and softirq."""
    match = re.search(r"^cpu +(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+)", stat, re.MULTILINE)
    return sum(int(ticks) for ticks in match.groups()) / _TICKS_HZ if match else None


def own_seconds(stat: Optional[str]) -> Optional[float]:
    """CPU seconds of one process from ``/proc/PID/stat``; its name may hold blanks and brackets."""
    if not stat or ")" not in stat:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_HZ


def _named(tree: Tree, pattern: str, file: str) -> List[Tuple[str, str]]:
    """Type and path of every folder; folders of the same type get their number."""
    types = [(tree.text(folder + "/type") or "", folder) for folder in tree.glob(pattern)]
    names = [name for name, _ in types]
    return [
        (name if names.count(name) == 1 else name + re.sub(r".*\D", "-", folder), folder + file)
        for name, folder in types
        if name
    ]


def _trips(tree: Tree) -> List[Tuple[str, str]]:
    """Counters that only rise, each time the hardware slowed itself down."""
    found = []
    for folder in tree.glob("/sys/class/hwmon/hwmon*"):
        if tree.text(folder + "/name") == "soctherm_oc":
            counters = tree.glob(folder + "/oc*_event_cnt")
            found += [(path.rsplit("/", 1)[1].split("_")[0], path) for path in counters]
    cpus = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count"
    # every core of a package tells the same
    return found + [("package", path) for path in tree.glob(cpus)[:1]]
