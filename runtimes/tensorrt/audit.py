"""Where an engine computes in INT8, what it pays at the borders, and where FP16 would be better.

An *INT8 island* is a set of layers that hand INT8 tensors to each other. At its shores stand
layers that only convert: quantize (float to INT8), dequantize (back); elsewhere casts between
floats and changes of layout. None of them computes anything, so their time is the price.

On NVIDIA's GPUs INT8 runs at most twice as many operations a second as FP16, and moves half the
bytes. So an island that takes t in INT8 takes at most 2 t in FP16 and saves at most t: where its
shores cost t or more, FP16 cannot be slower. Where they cost less, only a measurement tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from exporters.errors import UserError
from runtimes.base import Evidence
from runtimes.tensorrt.layers import Layer, Profile

SCHEMA = "edgeport.layers/1"
EVIDENCE = Evidence.WRITTEN  # the schema is NVIDIA's documentation; no engine ran here


_OPAQUE = ("Myelin", "ForeignNode")


@dataclass(frozen=True)
class Share:
    """Layers of one sort, their time in one run, and its part of the whole; 0 without a profile."""

    layers: int
    time_ms: float
    percent: float


@dataclass(frozen=True)
class Island:
    """An INT8 island.

    Attributes:
        layers: its layers, in the engine's order.
        nodes: ONNX nodes in it, for ``edgeport quantize --keep-float``.
        borders: the quantize and dequantize layers at its shores.
        time_ms, border_ms: in one run; None without a profile.
        pays: False where FP16 cannot be slower, None where only measuring it tells.
    """

    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    borders: tuple[str, ...]
    time_ms: float | None
    border_ms: float | None
    pays: bool | None
    advice: str


@dataclass(frozen=True)
class Audit:
    """The whole engine; ``costliest``: conversions by time, ``notes``: what could not be seen."""

    layers: int
    total_ms: float | None
    sorts: dict[str, Share]
    islands: tuple[Island, ...]
    costliest: tuple[tuple[str, str, float], ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "evidence": EVIDENCE.value, **asdict(self)}


def audit(
    layers: Sequence[Layer], profile: Profile | None = None, fp16: Profile | None = None
) -> Audit:
    """Sort the layers of an INT8 engine and judge its islands.

    Args:
        profile: times of this engine's layers.
        fp16: times of the FP16 engine of the same model, for the totals.

    Raises:
        UserError: ``profile`` is of another engine.
    """
    times, notes = _times(layers, profile)
    sorts = {layer.name: sort_of(layer) for layer in layers}
    total_ms = sum(row.average_ms for row in profile.layers) if profile else None
    islands = tuple(_island(members, layers, times) for members in _islands(layers, sorts))
    conversions = [
        (layer.name, sorts[layer.name], times.get(layer.name, 0.0))
        for layer in layers
        if sorts[layer.name] in ("quantize", "dequantize", "cast", "layout")
    ]
    return Audit(
        layers=len(layers),
        total_ms=total_ms,
        sorts=_shares(sorts, times, total_ms),
        islands=islands,
        costliest=tuple(sorted(conversions, key=lambda row: -row[2])[:10]) if profile else (),
        notes=(*notes, *_notes(layers, total_ms, fp16)),
    )


def sort_of(layer: Layer) -> str:
    """``quantize``, ``dequantize``, ``cast``, ``layout``, or ``compute`` with its type."""
    taken = layer.inputs[0].dtype if layer.inputs else ""
    given = layer.outputs[0].dtype if layer.outputs else ""
    if not _only_converts(layer):
        return f"compute {layer.weights or taken or given or 'unknown'}"
    if taken == given or not taken or not given:
        return "layout"
    if given == "int8":
        return "quantize"
    return "dequantize" if taken == "int8" else "cast"


def _only_converts(layer: Layer) -> bool:
    kind = layer.kind.lower()
    return (
        "reformat" in kind or kind in ("cast", "quantize", "dequantize", "scale_qdq")
    ) or layer.name.startswith("Reformatting CopyNode")


def _times(layers: Sequence[Layer], profile: Profile | None) -> tuple[dict[str, float], list[str]]:
    if profile is None:
        return {}, ["without a profile nothing can be said about time: add --profile"]
    times = {row.name: row.average_ms for row in profile.layers}
    strange = [name for name in times if name not in {layer.name for layer in layers}]
    if len(strange) == len(times):
        raise UserError(
            "no layer of the profile is a layer of the engine: they are of two engines"
            + (f"; the profile begins with {strange[0]!r}" if strange else ""),
            fix="Write both in one run: trtexec --exportLayerInfo=FILE --exportProfile=FILE",
        )
    notes = [f"{len(strange)} layers of the profile are not in the engine"] if strange else []
    return times, notes


def _islands(layers: Sequence[Layer], sorts: dict[str, str]) -> Iterable[tuple[str, ...]]:
    """Connected INT8 layers; a change of layout between two of them belongs to the island."""
    inside = [
        layer
        for layer in layers
        if sorts[layer.name] == "compute int8"
        or (sorts[layer.name] == "layout" and layer.inputs and layer.inputs[0].dtype == "int8")
    ]
    parent = {layer.name: layer.name for layer in inside}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    makers = {t.name: layer.name for layer in inside for t in layer.outputs if t.dtype == "int8"}
    readers: dict[str, str] = {}
    for layer in inside:
        for tensor in layer.inputs:
            if tensor.dtype != "int8":
                continue
            other = makers.get(tensor.name) or readers.setdefault(tensor.name, layer.name)
            parent[root(layer.name)] = root(other)
    groups: dict[str, list[str]] = defaultdict(list)
    for layer in inside:
        groups[root(layer.name)].append(layer.name)
    for members in groups.values():
        if any(sorts[name] == "compute int8" for name in members):
            yield tuple(members)


def _island(members: tuple[str, ...], layers: Sequence[Layer], times: dict[str, float]) -> Island:
    own = [layer for layer in layers if layer.name in members]
    taken = {tensor.name for layer in own for tensor in layer.inputs}
    given = {tensor.name for layer in own for tensor in layer.outputs}
    borders = tuple(
        layer.name
        for layer in layers
        if (sort_of(layer) == "quantize" and any(t.name in taken for t in layer.outputs))
        or (sort_of(layer) == "dequantize" and any(t.name in given for t in layer.inputs))
    )
    time_ms = sum(times.get(name, 0.0) for name in members) if times else None
    border_ms = sum(times.get(name, 0.0) for name in borders) if times else None
    pays, advice = _judge(time_ms, border_ms)
    nodes = tuple(node for layer in own for node in layer.nodes)
    return Island(members, nodes, borders, time_ms, border_ms, pays, advice)


def _judge(time_ms: float | None, border_ms: float | None) -> tuple[bool | None, str]:
    if time_ms is None or border_ms is None:
        return None, "no profile: its cost is not known"
    if border_ms >= time_ms:
        return False, (
            f"stay FP16: its borders cost {border_ms:.3f} ms, and INT8 can save at most "
            f"{time_ms:.3f} ms here"
        )
    return None, (
        f"INT8 pays if these layers take more than {time_ms + border_ms:.3f} ms in FP16: measure"
    )


def _shares(
    sorts: dict[str, str], times: dict[str, float], total_ms: float | None
) -> dict[str, Share]:
    names: dict[str, list[str]] = defaultdict(list)
    for name, sort in sorts.items():
        names[sort].append(name)
    shares = {}
    for sort in sorted(names):
        time_ms = sum(times.get(name, 0.0) for name in names[sort])
        shares[sort] = Share(len(names[sort]), time_ms, 100 * time_ms / total_ms if total_ms else 0)
    return shares


def _notes(layers: Sequence[Layer], total_ms: float | None, fp16: Profile | None) -> list[str]:
    notes = []
    opaque = [x.name for x in layers if any(word in x.kind or word in x.name for word in _OPAQUE)]
    if opaque:
        notes.append(
            f"{len(opaque)} compiled regions show their borders only, {opaque[0]!r} the first: "
            "conversions inside are not in this list"
        )
    if fp16 is not None and total_ms is not None:
        other_ms = sum(row.average_ms for row in fp16.layers)
        verdict = "stay FP16" if other_ms <= total_ms else "INT8 is faster"
        notes.append(f"{verdict}: {total_ms:.3f} ms in INT8, {other_ms:.3f} ms in FP16")
    return notes
