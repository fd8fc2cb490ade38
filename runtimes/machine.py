"""The machine that numbers were measured on: a latency without it means nothing."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_FLAGS = (  # what decides how fast integer and half-precision kernels are
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
_PACKAGES = (
    "edgeport",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
)
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def environment(threads: int | None = None) -> dict[str, Any]:
    """CPU, cores, versions, load and governor, as JSON types.

    Args:
        threads: that the sessions were given; None means one a core.
    """
    cores = usable_cores()
    return {
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": cores,
        "threads": threads or cores,
        "memory_mib": _memory_mib(),
        "governor": _read(_GOVERNOR),
        "load": load_average(),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": installed_versions(_PACKAGES),
    }


def usable_cores() -> int:
    """Cores that this process may use, which a container can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    for key in ("model name", "Hardware", "Model"):
        found = _cpuinfo(key)
        if found:
            return found
    return platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """The flags of ``_FLAGS`` that this CPU has, in that order."""
    present = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in _FLAGS if flag in present]


def load_average() -> float | None:
    """Processes that wanted a core, averaged over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def installed_versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _memory_mib() -> int:
    import psutil

    return int(psutil.virtual_memory().total) >> 20


def _cpuinfo(key: str) -> str:
    for line in (_read(_CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
