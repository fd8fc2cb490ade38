"""What this machine can do: every runtime asked, every target judged."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes import registry, targets
from runtimes.base import Availability, Evidence
from runtimes.tensorrt.adapter import TensorRT
from runtimes.tensorrt.installed import Installed


@dataclass(frozen=True)
class TargetStatus:
    """One target on this machine.

    Attributes:
        build, run: whether an engine for it can be built, and run, here.
        fix: what to type for what is missing, and where; empty if nothing is.
        evidence: how the target's row is known.
        adapter: how it is known that edgeport's code for its software is right.
    """

    target: str
    device: str
    software: str
    build: bool
    run: bool
    evidence: Evidence
    adapter: Evidence
    fix: str = ""
    note: str = ""


@dataclass(frozen=True)
class Survey:
    runtimes: tuple[Availability, ...]
    targets: tuple[TargetStatus, ...]


def survey() -> Survey:
    """Probe all runtimes and join them with the target table."""
    available = {name: registry.get(name).probe() for name in registry.names()}
    adapter = registry.get("tensorrt")
    installed = adapter.installed() if isinstance(adapter, TensorRT) else None
    table = targets.load()
    statuses = tuple(
        _status(target, table, available[table.stack_of(target).runtime], installed)
        for target in table.targets.values()
    )
    return Survey(tuple(available.values()), statuses)


def _status(
    target: targets.Target,
    table: targets.Targets,
    runtime: Availability,
    installed: Installed | None,
) -> TargetStatus:
    stack, device = table.stack_of(target), table.device_of(target)
    needs_engine = stack.runtime == "tensorrt"
    present = not needs_engine or (installed is not None and installed.is_stack(stack))
    if present:
        fix = runtime.fix
    else:
        fix = stack.setup if stack.cross_builds else f"on the device: {stack.setup}"
    return TargetStatus(
        target=target.key,
        device=device.name,
        software=stack.name + (f", JetPack {target.jetpack}" if target.jetpack else ""),
        build=present and (runtime.can_build or not needs_engine),
        run=present and runtime.can_run,
        evidence=target.evidence,
        adapter=stack.adapter,
        fix=fix,
        note=target.note or stack.note,
    )
