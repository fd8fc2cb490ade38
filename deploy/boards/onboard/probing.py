"""What the board is: hardware, JetPack, runtimes, room. Facts that cannot be had are absent."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
from typing import Any, Dict, List, Optional, Tuple

TRTEXEC = ("/usr/src/tensorrt/bin/trtexec",)
"""Where JetPack puts it, off the PATH."""


def probe() -> Dict[str, Any]:
    found: Dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "os": _os_name(),
        "hostname": platform.node(),
        "cores": os.cpu_count(),
        "memory_mib": _memory_mib(),
        "board": _text("/proc/device-tree/model").rstrip("\0"),
        "cpu": _cpu(),
        "l4t": l4t(_text("/etc/nv_tegra_release")),
        "power_mode": power_mode_now(),
        "runtimes": runtimes(),
        "free_mib": shutil.disk_usage(os.path.expanduser("~")).free >> 20,
        "root": os.geteuid() == 0,
    }
    return {key: value for key, value in found.items() if value not in ("", None)}


def runtimes() -> Dict[str, str]:
    """Name to version of what can run or build here."""
    found: Dict[str, str] = {}
    for module in ("numpy", "tensorrt", "tensorrt_rtx", "onnxruntime"):
        try:
            found[module] = str(importlib.import_module(module).__version__)
        except Exception:  # a broken installation counts as none: libraries fail in many ways
            continue
    trtexec = find_trtexec()
    if trtexec:
        version = trtexec_version(trtexec)
        if version:
            found["trtexec"] = ".".join(str(part) for part in version)
    return found


def find_trtexec() -> Optional[str]:
    on_path = shutil.which("trtexec")
    if on_path:
        return on_path
    return next((path for path in TRTEXEC if os.access(path, os.X_OK)), None)


def trtexec_version(path: str) -> Tuple[int, ...]:
    """(8, 5, 2) from the banner's ``[TensorRT v8502]``; empty where it does not say."""
    match = re.search(r"\[TensorRT v(\d+)\]", _output([path, "--help"]))
    if match is None:
        return ()
    number = int(match.group(1))
    scale = 1000 if number < 10_000 else 10_000  # TensorRT 10 made room for two digits
    return number // scale, number % scale // 100, number % 100


def l4t(release: str) -> str:
    """``36.4.3`` from ``# R36 (release), REVISION: 4.3, GCID: ...``."""
    match = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{match.group(1)}.{match.group(2)}" if match else ""


def power_mode_now() -> str:
    return power_mode(_output(["nvpmodel", "-q"]))


def power_mode(answer: str) -> str:
    """``MAXN`` from nvpmodel's ``NV Power Mode: MAXN``."""
    match = re.search(r"NV Power Mode:\s*(\S+)", answer)
    return match.group(1) if match else ""


def _os_name() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text("/etc/os-release"), re.MULTILINE)
    return match.group(1) if match else platform.platform()


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return match.group(1) if match else ""


def _memory_mib() -> Optional[int]:
    match = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) >> 10 if match else None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _output(command: List[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
