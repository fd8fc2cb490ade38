"""Layers of an engine and their times, in the JSON that trtexec reads and writes.

    --exportLayerInfo   {"Layers": [{"Name", "LayerType", "Inputs": [{"Name", "Format/Datatype"}],
                         "Outputs", "Metadata"}, ...], "Bindings": [...]}
    --exportProfile     [{"count": N}, {"name", "timeMs", "averageMs", "medianMs",
                         "percentage"}, ...]

Source: NVIDIA's documentation of IEngineInspector, and sampleReporting in NVIDIA/TensorRT. An
engine that was built without detailed profiling verbosity gives names only: too little here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from exporters.errors import UserError

_DATATYPE_KEYS = ("Format/Datatype", "Datatype", "DataType", "Format")
_DATATYPES = (  # searched in this order, in text without case: "fp16" before "fp1", "int64" ...
    ("int8", r"\bint8\b|\bi8\b"),
    ("int4", r"\bint4\b"),
    ("fp8", r"\bfp8\b|\bfloat8\b|\be4m3"),
    ("bf16", r"\bbf16\b|\bbfloat16\b"),
    ("fp16", r"\bfp16\b|\bhalf\b|\bfloat16\b"),
    ("fp32", r"\bfp32\b|\bfloat\b|\bfloat32\b|\btf32\b"),
    ("int32", r"\bint32\b"),
    ("int64", r"\bint64\b"),
    ("bool", r"\bbool\b"),
    ("uint8", r"\buint8\b"),
)
_NODES = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_DETAILS = (
    "Build it with details: edgeport build --layer-details, "
    "or trtexec --profilingVerbosity=detailed"
)


@dataclass(frozen=True)
class LayerTensor:
    """``layout``: the engine's own words; ``dtype``: ``int8``, ``fp16``, ... in them, or empty."""

    name: str
    dtype: str
    layout: str


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, most often several ONNX nodes fused.

    Attributes:
        kind: TensorRT's ``LayerType``.
        weights: element type of its weights; empty where it has none.
        nodes: names of the ONNX nodes it was made of, where the engine tells.
    """

    name: str
    kind: str
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    weights: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds of one layer: of all runs together, and in one run."""

    name: str
    time_ms: float
    average_ms: float
    median_ms: float


@dataclass(frozen=True)
class Profile:
    """``runs``: over how many the times were taken."""

    runs: int
    layers: tuple[LayerTime, ...]


def read_layers(path: Path) -> tuple[Layer, ...]:
    """What ``trtexec --exportLayerInfo`` or ``edgeport inspect --export-layers`` wrote.

    Raises:
        UserError: no such JSON, or names only.
    """
    document = _load(path, "layer information")
    entries = document.get("Layers") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} holds no layers", fix="Write it: trtexec --exportLayerInfo=FILE")
    if any(isinstance(entry, str) for entry in entries):
        raise UserError(f"{path} holds the names of the layers and nothing else", fix=_DETAILS)
    try:
        return tuple(_layer(entry) for entry in entries)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no layer information: {error!r}", fix=_DETAILS) from error


def read_profile(path: Path) -> Profile:
    """What ``trtexec --exportProfile`` or ``edgeport inspect --export-profile`` wrote.

    Raises:
        UserError: no such JSON.
    """
    rows = _load(path, "a profile")
    try:
        runs = int(rows[0]["count"])
        return Profile(runs, tuple(_time(row) for row in rows[1:]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no profile: {error!r}", fix="Write it: trtexec --exportProfile=FILE"
        ) from error


def profile_of(times_ms: Mapping[str, Sequence[float]]) -> Profile:
    """The profile of layers that ran equally often; ``times_ms``: layer -> one value a run."""
    runs = min((len(values) for values in times_ms.values()), default=0)
    return Profile(
        runs,
        tuple(
            LayerTime(name, sum(values), sum(values) / len(values), median(values))
            for name, values in times_ms.items()
            if values
        ),
    )


def dump_profile(profile: Profile) -> str:
    """``profile`` as trtexec writes it, with the same keys."""
    total_ms = sum(layer.time_ms for layer in profile.layers) or 1.0
    rows: list[dict[str, Any]] = [{"count": profile.runs}]
    rows += [
        {
            "name": layer.name,
            "timeMs": layer.time_ms,
            "averageMs": layer.average_ms,
            "medianMs": layer.median_ms,
            "percentage": 100 * layer.time_ms / total_ms,
        }
        for layer in profile.layers
    ]
    return json.dumps(rows, indent=1) + "\n"


def _load(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", fix="Check the path") from error
    except ValueError as error:
        raise UserError(f"{path} is not {what}: {error}", fix="Write it again") from error


def _layer(entry: Mapping[str, Any]) -> Layer:
    weights = entry.get("Weights")
    return Layer(
        name=entry["Name"],
        kind=entry.get("LayerType", ""),
        inputs=_tensors(entry.get("Inputs", ())),
        outputs=_tensors(entry.get("Outputs", ())),
        weights=_datatype(weights.get("Type", "")) if isinstance(weights, dict) else "",
        nodes=tuple(_NODES.findall(entry.get("Metadata", ""))),
    )


def _tensors(items: Iterable[Mapping[str, Any]]) -> tuple[LayerTensor, ...]:
    found = []
    for item in items:
        text = " ".join(str(item[key]) for key in _DATATYPE_KEYS if key in item)
        found.append(LayerTensor(item["Name"], _datatype(text), text))
    return tuple(found)


def _datatype(text: str) -> str:
    return next((name for name, words in _DATATYPES if re.search(words, text.lower())), "")


def _time(row: Mapping[str, Any]) -> LayerTime:
    average = float(row["averageMs"])
    # trtexec before 8.5 wrote no median
    return LayerTime(
        row["name"], float(row["timeMs"]), average, float(row.get("medianMs", average))
    )
