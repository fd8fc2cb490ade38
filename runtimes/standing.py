"""On which row of the target table this machine stands.

A Jetson says what it is in two files: the board in ``/proc/device-tree/model``, the release of
Jetson Linux in ``/etc/nv_tegra_release`` ("# R36 (release), REVISION: 4.3, ..."). A PC with an RTX
GPU is known by its compute capability, and whatever is left is a CPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runtimes.targets import Device, Target, Targets

_MODEL = Path("proc/device-tree/model")
_RELEASE = Path("etc/nv_tegra_release")
_RELEASE_WORDS = re.compile(r"R(\d+) \(release\), REVISION: (\d+)\.(\d+)")
_CPU = "cpu/onnxruntime"


@dataclass(frozen=True)
class Standing:
    """This machine in the words of the table.

    Attributes:
        machine: what it calls itself.
        l4t, jetpack: Jetson Linux and JetPack; empty elsewhere, or where not known.
        target: key of the row; None where the table has none, then ``reason`` says why.
    """

    machine: str
    target: str | None
    reason: str = ""
    l4t: str = ""
    jetpack: str = ""


def standing(table: Targets, capability: str = "", root: Path = Path("/")) -> Standing:
    """The row for the machine whose file system is ``root``.

    Args:
        capability: compute capability of its GPU, ``8.9``; empty without one.
    """
    model = _read(root / _MODEL).replace("\0", "").strip()
    release = _read(root / _RELEASE)
    if "Jetson" in model or release:
        return _on_jetson(table, model or "a Jetson without a device tree", release)
    if capability:
        return _with_gpu(table, capability)
    return Standing("a machine without an NVIDIA GPU", _CPU)


def _on_jetson(table: Targets, model: str, release: str) -> Standing:
    l4t = ".".join(match.groups()) if (match := _RELEASE_WORDS.search(release)) else ""
    jetpack = table.l4t[l4t].jetpack if l4t in table.l4t else ""
    device = _device_called(model, table)
    if device is None:
        reason = f"the table has no device called {model!r}"
    elif not l4t:
        reason = "/etc/nv_tegra_release does not say which Jetson Linux this is"
    elif not jetpack:
        reason = f"the table does not know which JetPack Jetson Linux {l4t} belongs to"
    else:
        row = _row(table, device, jetpack)
        if row is not None:
            return Standing(model, row.key, row.note, l4t, jetpack)
        others = [t.jetpack for t in table.targets.values() if t.device == device.key]
        reason = f"no row for {device.name} with JetPack {jetpack}, only {', '.join(others)}"
    return Standing(model, None, reason, l4t, jetpack)


def _with_gpu(table: Targets, capability: str) -> Standing:
    machine = f"an NVIDIA GPU of compute capability {capability}"
    for target in table.targets.values():
        device, stack = table.device_of(target), table.stack_of(target)
        if device.compute_capability == capability and stack.cross_builds:
            return Standing(machine, target.key)
    reason = f"no TensorRT-RTX target for compute capability {capability}"
    return Standing(machine, None, reason)


def _device_called(model: str, table: Targets) -> Device | None:
    hits = {
        prefix: device
        for device in table.devices.values()
        for prefix in device.models
        if model.startswith(prefix)
    }
    return hits[max(hits, key=len)] if hits else None


def _row(table: Targets, device: Device, jetpack: str) -> Target | None:
    rows = table.targets.values()
    return next((r for r in rows if r.device == device.key and r.jetpack == jetpack), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
