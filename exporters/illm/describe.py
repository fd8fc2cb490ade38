"""The self-description of a language model file."""

from __future__ import annotations

from typing import Any

from exporters.files import sha256_file
from exporters.illm.config import Config
from exporters.illm.options import ExportOptions
from exporters.illm.source import Source
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, StateSpec, WeightsSource
from exporters.versions import tool_versions

_KEEP = InputSpec(
    "logits_to_keep",
    "int64",
    (1,),
    "tensor",
    {"meaning": "of how many last tokens logits are wanted; 0 for all"},
)
_INTEGER_LOGITS = "logits x logits_mantissa / 2^logits_exponent"


def describe(
    source: Source, options: ExportOptions, *, context: int, special: dict[str, str], text: str
) -> ModelSpec:
    """What the model file says of itself.

    Args:
        special: names of special tokens to their text.
        text: what statistics came from.
    """
    integer = options.precision == "integer"
    c = source.config
    geometry: dict[str, Any] = {
        "architecture": c.architecture,
        "layers": c.layers,
        "hidden": c.hidden,
        "heads": c.heads,
        "kv_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "ffn": c.ffn,
        "vocabulary": c.vocabulary,
        "context": context,
        "stop_tokens": list(c.stop_tokens),
        "begin_token": c.begin_token,
        "special_tokens": special,
        "stored": list(source.notes),
    }
    caches = _caches(c, integer=integer)
    quantization: dict[str, Any] = {
        "method": "i-llm",
        "weights_bits": options.bits.weights,
        "activation_bits": options.bits.activations,
        "head_bits": 8,
        "head_row_bits": 16,
        "smoothing": options.smoothing,
        "text": text,
        "basis": options.basis,
        "rounding": options.rounding,
        "runtime": options.runtime,
    }
    if options.factors is not None:
        quantization["factors_sha256"] = sha256_file(options.factors)
    return ModelSpec(
        variant="illm",
        family="illm",
        task="language",
        inputs=(
            InputSpec("input_ids", "int64", (1, "tokens"), "token-ids"),
            *(() if options.runtime == "tensorrt" else (_KEEP,)),
            *(InputSpec(f"past.{n}", d, (*s, "past", w), "state") for n, d, s, w in caches),
        ),
        outputs=(
            OutputSpec("next_token", "int64", (1, "kept"), "token-ids", {"meaning": "likeliest"}),
            *_logits(c, integer=integer),
            *(OutputSpec(f"present.{n}", d, (*s, "total", w), "state") for n, d, s, w in caches),
        ),
        states=tuple(StateSpec(f"present.{n}", f"past.{n}") for n, _, _, _ in caches),
        weights=WeightsSource("checkpoint", source.sha256, licence=source.licence),
        geometry=geometry,
        tools=tool_versions("torch", "onnx", "gguf", "tokenizers", "safetensors"),
        quantization=quantization if integer else None,
    )


def _caches(c: Config, *, integer: bool) -> list[tuple[str, str, tuple[int, int], int]]:
    """Name, dtype, leading shape and width of each state."""
    lead = (1, 2 * c.kv_heads)
    found = []
    for index in range(c.layers):
        found.append((f"{index}.kv", "int8" if integer else "float32", lead, c.head_dim))
        if integer:
            found.append((f"{index}.scale", "int32", lead, 1))
    return found


def _logits(c: Config, *, integer: bool) -> list[OutputSpec]:
    shape = (1, "kept", c.vocabulary)
    if not integer:
        return [OutputSpec("logits", "float32", shape, "logits")]
    return [
        OutputSpec("logits", "int64", shape, "logits", {"real": _INTEGER_LOGITS}),
        OutputSpec("logits_mantissa", "int64", (1, "kept", 1), "tensor", {"of": "logits"}),
        OutputSpec("logits_exponent", "int64", (1, "kept", 1), "tensor", {"of": "logits"}),
    ]
