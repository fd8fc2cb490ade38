"""The target table: which device runs which TensorRT, with which types, limits and defects.

A *target* is a device with its software, ``jetson-orin-agx/jp6.2/trt10.3``. Three tables make it:
*devices* (compute capability, DLA), *stacks* (a runtime version with its tensor types and its
build route) and *rules* (an operator that a stack refuses, mangles or limits, with the condition
in words that ``runtimes.rules`` evaluates). Every row names its source and its evidence; the
facts are data in ``targets.toml``, this file only reads and joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from exporters.errors import UserError, did_you_mean
from runtimes.base import Evidence
from runtimes.tomlfile import parse, read_toml

TABLE = Path(__file__).with_name("targets.toml")


@dataclass(frozen=True)
class Source:
    """Where a fact is from; ``url`` is empty for a document without a stable address."""

    key: str
    document: str
    url: str = ""


@dataclass(frozen=True)
class Device:
    """A piece of hardware.

    Attributes:
        compute_capability: CUDA compute capability, ``8.7``; empty for a CPU, and for a target
            that stands for every device of its builder.
        dla: whether the hardware has deep learning accelerators.
        models: beginnings of ``/proc/device-tree/model`` by which it is known, Jetsons only.
    """

    key: str
    name: str
    source: str
    evidence: Evidence
    compute_capability: str = ""
    dla: bool = False
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class JetsonLinux:
    """A release of Jetson Linux (L4T), ``36.4.3``, and the JetPack that it came with."""

    key: str
    jetpack: str
    source: str
    evidence: Evidence


@dataclass(frozen=True)
class Stack:
    """A runtime at a version.

    Attributes:
        runtime: name in the runtime registry.
        version: leading components that the installed library must have, ``10.3``.
        module: Python module that is this stack, ``tensorrt``.
        cross_builds: whether engines are built away from the device.
        types: ONNX tensor element types that may appear in the graph.
        setup: what to type, on the machine that builds, to get it.
        adapter: how it is known that edgeport's code for this version is right; ``evidence`` is
            that of the row.
    """

    key: str
    name: str
    runtime: str
    version: str
    module: str
    cross_builds: bool
    types: tuple[str, ...]
    setup: str
    source: str
    evidence: Evidence
    adapter: Evidence
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """An operator that stacks refuse or treat specially.

    Attributes:
        op_types: ONNX operators it is about; ``*`` for all.
        when: name of the condition in ``runtimes.rules``.
        severity: ``error`` stops a build.
        limit: number the condition compares with, where it needs one.
        compute_capabilities: only for these, where given.
    """

    key: str
    stacks: tuple[str, ...]
    op_types: tuple[str, ...]
    when: str
    message: str
    source: str
    evidence: Evidence
    severity: str = "error"
    limit: int = 0
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A device with its software; ``dla`` says whether this software reaches the device's DLA."""

    key: str
    device: str
    stack: str
    source: str
    evidence: Evidence
    jetpack: str = ""
    cuda: str = ""
    python: str = ""
    dla: bool = False
    note: str = ""


Row = TypeVar("Row", Source, Device, JetsonLinux, Stack, Rule, Target)


@dataclass(frozen=True)
class Targets:
    """The whole table, joined by key."""

    sources: Mapping[str, Source]
    devices: Mapping[str, Device]
    l4t: Mapping[str, JetsonLinux]
    stacks: Mapping[str, Stack]
    rules: Mapping[str, Rule]
    targets: Mapping[str, Target]

    def get(self, key: str) -> Target:
        if key not in self.targets:
            raise UserError(
                f"unknown target {key!r}",
                fix=f"{did_you_mean(key, self.targets)} (all of them: edgeport doctor)",
            )
        return self.targets[key]

    def device_of(self, target: Target) -> Device:
        return self.devices[target.device]

    def stack_of(self, target: Target) -> Stack:
        return self.stacks[target.stack]

    def rules_of(self, target: Target) -> tuple[Rule, ...]:
        capability = self.device_of(target).compute_capability
        return tuple(
            rule
            for rule in self.rules.values()
            if target.stack in rule.stacks
            and (not rule.compute_capabilities or capability in rule.compute_capabilities)
        )


@cache
def load(path: Path = TABLE) -> Targets:
    """Read the table strictly: unknown keys, dangling references and doubles are errors."""
    document = read_toml(path)
    known = {"schema", "sources", "devices", "l4t", "stacks", "rules", "targets"}
    for key in document:
        if key not in known:
            raise UserError(
                f"{path.name} has an unknown table {key!r}", fix=did_you_mean(key, known)
            )
    if document.get("schema") != "edgeport.targets/1":
        raise UserError(f"{path.name} has schema {document.get('schema')!r}")
    table = Targets(
        sources=_rows(Source, document, "sources"),
        devices=_rows(Device, document, "devices"),
        l4t=_rows(JetsonLinux, document, "l4t"),
        stacks=_rows(Stack, document, "stacks"),
        rules=_rows(Rule, document, "rules"),
        targets=_rows(Target, document, "targets"),
    )
    _check_references(table)
    return table


def _rows(kind: type[Row], document: Mapping[str, list[object]], name: str) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for index, value in enumerate(document.get(name, [])):
        label = value.get("key", index) if isinstance(value, dict) else index
        row = parse(kind, value, f"{name}[{label}]")
        if row.key in rows:
            raise UserError(f"{name}[{row.key}] occurs twice")
        rows[row.key] = row
    return rows


def _check_references(table: Targets) -> None:
    def require(key: str, rows: Mapping[str, object], where: str) -> None:
        if key not in rows:
            raise UserError(f"{where} refers to {key!r}", fix=did_you_mean(key, rows))

    for name in ("devices", "l4t", "stacks", "rules", "targets"):
        for row in getattr(table, name).values():
            require(row.source, table.sources, f"{name}[{row.key}].source")
    for rule in table.rules.values():
        for stack in rule.stacks:
            require(stack, table.stacks, f"rules[{rule.key}].stacks")
    for target in table.targets.values():
        require(target.device, table.devices, f"targets[{target.key}].device")
        require(target.stack, table.stacks, f"targets[{target.key}].stack")
