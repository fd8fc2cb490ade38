"""Learned smoothing factors and weight clipping in a file: what `edgeport smooth` writes.

A small ``.safetensors`` with tensors ``LAYER.PAIR`` (factors, see `exporters.illm.smoothing`) and
``LAYER.clip.MATRIX`` (per output column, the share of the largest weight that is the end of the
scale), and one JSON text as metadata: which checkpoint, bits, text, seed and plan they come from,
and the loss of every layer. A file may hold the first layers only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import UserError
from exporters.files import written_atomically
from exporters.illm.config import Config
from exporters.illm.placing import Bits
from exporters.illm.smoothing import Factors
from exporters.illm.source import Array, Source

METADATA_KEY = "edgeport.fsbr"
_AGAIN = "Learn it again: edgeport smooth CHECKPOINT --bits W4A4 --text FILE -o FACTORS"


@dataclass(frozen=True)
class LearnedLayer:
    """What was learned for one layer.

    Attributes:
        clipping: ``qkv``, ``output``, ``gate_up``, ``down``: float32 ``[out]`` in (0, 1]; a matrix
            that is missing is not clipped.
    """

    factors: Factors = field(default_factory=Factors)
    clipping: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class LearnedFactors:
    """A file's content.

    Attributes:
        layers: by index.
        log: ``checkpoint`` (SHA-256), ``bits``, ``text``, ``plan`` (with its seed), ``layers``.
    """

    layers: Mapping[int, LearnedLayer]
    log: Mapping[str, Any]

    def belong_to(self, source: Source) -> bool:
        """Whether they were learned for this checkpoint in this basis."""
        return bool(self.log.get("checkpoint") == source.sha256)


def save_learned(learned: LearnedFactors, path: Path, *, overwrite: bool = False) -> None:
    """Write ``learned``; what was at ``path`` before stays until the new file is whole."""
    from safetensors.numpy import save

    tensors: dict[str, Array] = {}
    for index, layer in learned.layers.items():
        for item in fields(Factors):
            factor = getattr(layer.factors, item.name)
            if factor is not None:
                tensors[f"{index}.{item.name}"] = np.ascontiguousarray(factor, np.float32)
        for matrix, clip in layer.clipping.items():
            tensors[f"{index}.clip.{matrix}"] = np.ascontiguousarray(clip, np.float32)
    content = save(tensors, {METADATA_KEY: json.dumps(learned.log, sort_keys=True)})
    with written_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def load_learned(path: Path) -> LearnedFactors:
    """Read what `save_learned` wrote.

    Raises:
        UserError: no such file, another kind of file, or a factor that is not a positive number.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"no factors at {path}", fix="Check --factors")
    try:
        with safe_open(path, "np") as file:
            log = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is no readable safetensors file: {error}", fix=_AGAIN) from error
    except KeyError as error:
        raise UserError(f"{path} holds no learned factors", fix=_AGAIN) from error
    return LearnedFactors(_by_layer(tensors, path), log)


def _by_layer(tensors: Mapping[str, Array], path: Path) -> dict[int, LearnedLayer]:
    factors: dict[int, dict[str, Array]] = {}
    clips: dict[int, dict[str, Array]] = {}
    known = {item.name for item in fields(Factors)}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all() or not (tensor > 0).all():
            raise UserError(f"{name!r} in {path} is not positive everywhere", fix=_AGAIN)
        index, _, rest = name.partition(".")
        if not index.isdecimal() or not (rest in known or rest in _CLIPS):
            raise UserError(f"{path} holds an unknown tensor {name!r}", fix=_AGAIN)
        factors.setdefault(int(index), {})
        clips.setdefault(int(index), {})
        (factors if rest in known else clips)[int(index)][rest.removeprefix("clip.")] = tensor
    return {i: LearnedLayer(Factors(**factors[i]), clips[i]) for i in sorted(factors)}


def require_fitting(learned: LearnedFactors, source: Source, bits: Bits, path: Path) -> None:
    """Refuse factors that were learned for something else.

    Raises:
        UserError: another checkpoint, other bits, or shapes of another network.
    """
    if not learned.belong_to(source):
        raise UserError(f"the factors in {path} belong to another checkpoint", fix=_AGAIN)
    learned_bits = learned.log.get("bits")
    if learned_bits != str(bits):
        raise UserError(
            f"the factors in {path} were learned for {learned_bits}, the export is {bits}",
            fix=f"Use --bits {learned_bits}",
        )
    for index, layer in learned.layers.items():
        _require_shapes(index, layer, source.config, path)


def _require_shapes(index: int, layer: LearnedLayer, c: Config, path: Path) -> None:
    heads = (c.kv_heads, c.head_dim)
    expected: dict[str, tuple[int, ...]] = {
        "attention": (c.hidden,),
        "value": heads,
        "key": heads,
        "ffn": (c.hidden,),
        "down": (c.ffn,),
        "gate": (c.ffn,),
        "clip.qkv": (c.attention_width + 2 * c.kv_width,),
        "clip.output": (c.hidden,),
        "clip.gate_up": (2 * c.ffn,),
        "clip.down": (c.hidden,),
    }
    found = {item.name: getattr(layer.factors, item.name) for item in fields(Factors)}
    found.update({f"clip.{matrix}": clip for matrix, clip in layer.clipping.items()})
    for name, tensor in found.items():
        if index >= c.layers or (tensor is not None and tensor.shape != expected[name]):
            raise UserError(f"'{index}.{name}' in {path} does not fit this network", fix=_AGAIN)


_CLIPS = ("clip.qkv", "clip.output", "clip.gate_up", "clip.down")
