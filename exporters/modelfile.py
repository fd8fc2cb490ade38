"""The model file: one ONNX that says of itself what it is.

Every stage of edgeport is a function from such a file to a better-known one, so whatever a later
stage needs travels in ``metadata_props`` under ``edgeport.*``: nobody downstream asks which
network it was. Values are strings or canonical JSON, so that equal models have equal bytes.

| key                          | value                                                          |
|------------------------------|----------------------------------------------------------------|
| ``edgeport.schema``          | version of this table                                          |
| ``edgeport.variant``         | named configuration of an exporter, ``flashocc-m0``            |
| ``edgeport.family``          | the exporter that made it, ``flashocc``                        |
| ``edgeport.task``            | ``occupancy``, ``detection``, ``language``                     |
| ``edgeport.inputs``/``outputs``/``states`` | lists of the dataclasses below                   |
| ``edgeport.classes``         | class names in label order                                     |
| ``edgeport.geometry``        | grid, image size, depth bins, rig hash: what the exporter says |
| ``edgeport.weights``         | where the weights come from                                    |
| ``edgeport.tools``           | versions of what wrote the file                                |
| ``edgeport.keep_float``      | node name prefixes that stay float unless asked, with reasons  |
| ``edgeport.keep_fp32``       | node name prefixes that are right in FP32 alone, with reasons  |
| ``edgeport.quantization``    | added by the quantizer; see ``calibration.quantize``           |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from exporters.errors import UserError
from exporters.external import (
    MESSAGE_LIMIT_BYTES,
    external_files,
    load_external,
    payload_bytes,
    write_external,
)
from exporters.files import require_writable, sha256_bytes, sha256_file, written_atomically
from exporters.validity import check_graph

if TYPE_CHECKING:
    import onnx

SCHEMA_VERSION = "1"
PREFIX = "edgeport."

ANY_SHAPE = ("...",)
"""Shape of an input that takes any, as some files from elsewhere say (or do not say)."""

JSON = Mapping[str, Any]


@dataclass(frozen=True)
class InputSpec:
    """One graph input: what the caller must feed.

    Attributes:
        name: graph input name.
        dtype: numpy name, ``uint8``.
        shape: fixed sizes; a string names a dynamic axis; ``ANY_SHAPE`` says nothing at all.
        semantics: ``camera-images``, ``rig-table``, ``camera-vectors``, ``ego-motion``,
            ``history-length``, ``points``, ``token-ids``, ``state`` or ``tensor``.
        details: what a reader needs to fill it: layout, colour order, camera order, resize and
            crop, normalisation, point columns and their units.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    semantics: str = "tensor"
    details: JSON = field(default_factory=dict)


@dataclass(frozen=True)
class OutputSpec:
    """One graph output: what the caller gets.

    Attributes:
        semantics: ``occupancy-labels``, ``occupancy-logits``, ``instance-ids``, ``boxes``,
            ``logits``, ``state`` or ``tensor``.
        details: axis names and units, value of the free class, voxel size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    semantics: str = "tensor"
    details: JSON = field(default_factory=dict)


@dataclass(frozen=True)
class StateSpec:
    """An output that becomes an input of a later sample of a sequence (history, KV cache).

    Several inputs may remember the same output at different ages: a history without copies.

    Attributes:
        reset: ``zeros``, ``repeat-current``: how the input is filled where a sequence starts.
        age: how many samples ago the output was made, at least 1.
    """

    output: str
    input: str
    reset: Literal["zeros", "repeat-current"] = "zeros"
    age: int = 1


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights come from; random weights are recorded, and stated beside every number.

    Attributes:
        kind: ``checkpoint`` or ``random``.
        sha256: of the checkpoint file; None for random weights.
        seed: of random weights; None for a checkpoint.
        licence: of the weights where known, carried along.
        note: how they were trained, of weights that come with edgeport.
    """

    kind: Literal["checkpoint", "random"]
    sha256: str | None = None
    seed: int | None = None
    licence: str | None = None
    note: str | None = None

    def __str__(self) -> str:
        if self.kind == "random":
            return f"random weights, seed {self.seed}"
        note = f", {self.note}" if self.note else ""
        return f"checkpoint {(self.sha256 or '?')[:12]}{note}"


@dataclass(frozen=True)
class ModelSpec:
    """The self-description of a model file (module docstring has the keys).

    Attributes:
        keep_float: node name prefix to the reason why the quantizer leaves those nodes in float
            unless asked, ``{"head/predicter.2": "class logits: ..."}``.
        keep_fp32: node name prefix to the reason why those nodes are wrong in 16 bits, also when
            everything else is cast.
    """

    variant: str
    family: str
    task: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    weights: WeightsSource
    classes: tuple[str, ...] = ()
    states: tuple[StateSpec, ...] = ()
    geometry: JSON = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    keep_float: Mapping[str, str] = field(default_factory=dict)
    keep_fp32: Mapping[str, str] = field(default_factory=dict)
    quantization: JSON | None = None

    def input(self, name: str) -> InputSpec:
        found: InputSpec = _named(self.inputs, name, "input")
        return found

    def output(self, name: str) -> OutputSpec:
        found: OutputSpec = _named(self.outputs, name, "output")
        return found

    def with_quantization(self, quantization: JSON) -> ModelSpec:
        return replace(self, quantization=quantization)

    def to_metadata(self) -> dict[str, str]:
        """Keys and values for ``metadata_props``, in a fixed order."""
        values = asdict(self)
        if self.quantization is None:
            del values["quantization"]
        pairs = {PREFIX + "schema": SCHEMA_VERSION}
        for key in sorted(values):
            value = values[key]
            pairs[PREFIX + key] = value if isinstance(value, str) else canonical_json(value)
        return pairs

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelSpec | None:
        """The description that ``metadata`` holds, or None for an ONNX from elsewhere.

        Raises:
            UserError: the keys are there but damaged, or written by a newer edgeport.
        """
        schema = metadata.get(PREFIX + "schema")
        if schema is None:
            return None
        if schema != SCHEMA_VERSION:
            raise UserError(
                f"the model file has self-description version {schema}, "
                f"this edgeport reads {SCHEMA_VERSION}",
                fix="Export the model again, or install the edgeport that wrote it",
            )
        try:
            return cls._parse(metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the model file's self-description is damaged: {error!r}",
                fix="Export the model again",
            ) from error

    @classmethod
    def _parse(cls, metadata: Mapping[str, str]) -> ModelSpec:
        def load(key: str, default: str = "{}") -> Any:
            return json.loads(metadata.get(PREFIX + key, default))

        def io(items: list[dict[str, Any]], kind: type[Any]) -> tuple[Any, ...]:
            return tuple(kind(**{**item, "shape": tuple(item["shape"])}) for item in items)

        return cls(
            variant=metadata[PREFIX + "variant"],
            family=metadata[PREFIX + "family"],
            task=metadata[PREFIX + "task"],
            inputs=io(load("inputs", "[]"), InputSpec),
            outputs=io(load("outputs", "[]"), OutputSpec),
            weights=WeightsSource(**load("weights")),
            classes=tuple(load("classes", "[]")),
            states=tuple(StateSpec(**state) for state in load("states", "[]")),
            geometry=load("geometry"),
            tools=load("tools"),
            keep_float=load("keep_float"),
            keep_fp32=load("keep_fp32"),
            quantization=load("quantization", "null"),
        )


class ModelFile:
    """A model file on disk. Opening checks that it is ONNX; the graph is read when first asked for.

    Raises:
        UserError: no such file, truncated, not ONNX, or a damaged self-description.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(
                f"no model file at {self.path}", fix="Check the path, or run: edgeport export"
            )

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The graph with its weights (external data included)."""
        proto = _parsed(self.path)
        self.data_files = tuple(external_files(proto, self.path))  # said no more once loaded
        load_external(proto, self.path)
        return proto

    @cached_property
    def data_files(self) -> tuple[Path, ...]:
        """Files beside this one that hold weights; none for most models."""
        return tuple(external_files(_parsed(self.path), self.path))

    @cached_property
    def spec(self) -> ModelSpec | None:
        """The self-description, or None for an ONNX from elsewhere."""
        return read_spec(self.proto)

    @cached_property
    def quantization(self) -> JSON | None:
        """What the quantizer wrote, also into an ONNX from elsewhere, which says nothing else."""
        found = [p.value for p in self.proto.metadata_props if p.key == PREFIX + "quantization"]
        return json.loads(found[0]) if found else None

    @cached_property
    def sha256(self) -> str:
        """Of the file; where weights lie beside it, of the hashes of all the files."""
        own = sha256_file(self.path)
        if not self.data_files:
            return own
        hashes = [own, *(sha256_file(file) for file in self.data_files)]
        return sha256_bytes(canonical_json(hashes).encode())

    @property
    def size_bytes(self) -> int:
        """Of the file and the data files beside it."""
        return sum(file.stat().st_size for file in (self.path, *self.data_files))

    def require_spec(self) -> ModelSpec:
        if self.spec is None:
            raise UserError(
                f"{self.path} carries no edgeport self-description",
                fix="Export it with: edgeport export VARIANT -o model.onnx",
            )
        return self.spec


def _parsed(path: Path) -> onnx.ModelProto:
    """The message in ``path``, without the weights that lie in other files.

    Raises:
        UserError: truncated or of another format, never a protobuf traceback.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a readable ONNX file: {error}",
            fix="It may be truncated or of another format; export or copy it again",
        ) from error
    if not proto.graph.node:
        raise UserError(
            f"{path} holds no graph", fix="It may be truncated; export or copy it again"
        )
    return proto


def read_spec(proto: onnx.ModelProto) -> ModelSpec | None:
    return ModelSpec.from_metadata({prop.key: prop.value for prop in proto.metadata_props})


def write_spec(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Replace the ``edgeport.*`` keys of ``proto`` by ``spec``; other keys stay."""
    kept = [(p.key, p.value) for p in proto.metadata_props if not p.key.startswith(PREFIX)]
    del proto.metadata_props[:]
    for key, value in [*kept, *spec.to_metadata().items()]:
        proto.metadata_props.add(key=key, value=value)


def save_model(
    proto: onnx.ModelProto,
    path: Path,
    *,
    spec: ModelSpec | None = None,
    overwrite: bool = False,
    limit_bytes: int = MESSAGE_LIMIT_BYTES,
) -> ModelFile:
    """Check ``proto`` and write it atomically, with deterministic bytes.

    Args:
        limit_bytes: larger models get their weights in a data file beside them (they are moved out
            of ``proto``); protobuf's limit by default.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is false.
        onnx.checker.ValidationError: the graph is invalid, which is our bug.
    """
    if spec is not None:
        write_spec(proto, spec)
    if payload_bytes(proto) > limit_bytes:
        require_writable(path, overwrite=overwrite)
        write_external(proto, path, overwrite=overwrite)
        return ModelFile(path)
    check_graph(proto)
    with written_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    return ModelFile(path)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _named(items: tuple[Any, ...], name: str, kind: str) -> Any:
    for item in items:
        if item.name == name:
            return item
    raise UserError(f"the model has no {kind} {name!r}", fix=f"It has {[i.name for i in items]}")
