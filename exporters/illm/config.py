"""What a LLaMA-family decoder is: sizes, rotary frequencies, and the tokens that end a text.

Read from a Hugging Face ``config.json``; `exporters.illm.gguf_file` fills the same from GGUF.
Covered: LLaMA 1 to 3, SmolLM, TinyLlama and Qwen2/2.5, that is RMSNorm, rotary embedding in halves,
grouped-query attention, SwiGLU, optional biases of q, k, v, tied or separate output weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from exporters.errors import UserError
from exporters.ops.hadamard import block_bits

ARCHITECTURES = ("llama", "qwen2")
_ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Config:
    """Sizes of a decoder.

    Attributes:
        frequencies: radians per position of each rotary pair, ``head_dim / 2`` of them, with any
            scaling applied.
        tied: the embedding is also the output matrix.
        biased: q, k and v have biases.
        context: positions that the network was trained for.
        stop_tokens: ids that end a text.
        begin_token: id to put before a text where the tokenizer does not do so itself.
        mixed: queries, keys and rows before the down matrix pass a Hadamard matrix at run time,
            see `exporters.ops.hadamard`; of networks in the rotated basis.
    """

    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context: int
    epsilon: float
    frequencies: tuple[float, ...]
    tied: bool
    biased: bool = False
    stop_tokens: tuple[int, ...] = ()
    begin_token: int | None = None
    mixed: bool = False

    def __post_init__(self) -> None:
        sizes = {key: value for key, value in asdict(self).items() if key in _SIZES}
        wrong = [f"{key} {value}" for key, value in sizes.items() if value < 1]
        if wrong:
            raise UserError(f"the configuration has {', '.join(wrong)}", fix=_FIX)
        if self.heads % self.kv_heads:
            raise UserError(
                f"{self.heads} heads cannot share {self.kv_heads} key-value heads", fix=_FIX
            )
        if self.head_dim % 2:
            raise UserError(f"head size {self.head_dim} has no rotary pairs", fix=_FIX)

    @property
    def group(self) -> int:
        """Query heads that share a key-value head."""
        return self.heads // self.kv_heads

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def key_mixing(self) -> int:
        """Queries and keys are mixed in blocks of 2^this channels; 0 for not at all."""
        return block_bits(self.head_dim) if self.mixed else 0

    @property
    def gate_mixing(self) -> int:
        """The same of rows before the down matrix."""
        return block_bits(self.ffn) if self.mixed else 0


_SIZES = ("hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocabulary", "context")
_FIX = "Check that config.json belongs to these weights"


def from_huggingface(config: Mapping[str, Any], generation: Mapping[str, Any]) -> Config:
    """The configuration in ``config.json``, with the stop tokens of ``generation_config.json`` too.

    Raises:
        UserError: unknown architecture or rotary scaling, or a value is missing.
    """
    architecture = str(config.get("model_type"))
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"architecture {architecture!r} is not known",
            fix=f"Known: {', '.join(ARCHITECTURES)} (SmolLM and TinyLlama are llama)",
        )
    _refuse_unknown(config)
    hidden, heads = int(_need(config, "hidden_size")), int(_need(config, "num_attention_heads"))
    head_dim = int(config.get("head_dim") or hidden // heads)
    return Config(
        architecture=architecture,
        hidden=hidden,
        layers=int(_need(config, "num_hidden_layers")),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        ffn=int(_need(config, "intermediate_size")),
        vocabulary=int(_need(config, "vocab_size")),
        context=int(config.get("max_position_embeddings") or 2048),
        epsilon=float(config.get("rms_norm_eps") or 1e-6),
        frequencies=_frequencies(config, head_dim),
        tied=bool(config.get("tie_word_embeddings", False)),
        biased=architecture == "qwen2" or bool(config.get("attention_bias")),
        stop_tokens=_stop_tokens(config, generation),
    )


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Options of these architectures that would change the arithmetic."""
    found = {
        "hidden_act": config.get("hidden_act", "silu") not in ("silu", "swish"),
        "mlp_bias": bool(config.get("mlp_bias")),
        "use_sliding_window": bool(config.get("use_sliding_window")),
    }
    wrong = [f"{key} {config[key]!r}" for key, is_wrong in found.items() if is_wrong]
    if wrong:
        raise UserError(
            f"the checkpoint has {', '.join(wrong)}, which is not covered",
            fix="Covered are SiLU gates, no biases in the feed-forward part and full attention",
        )


def base_frequencies(base: float, head_dim: int) -> list[float]:
    return [base ** (-2.0 * i / head_dim) for i in range(head_dim // 2)]


def _frequencies(config: Mapping[str, Any], head_dim: int) -> tuple[float, ...]:
    """Radians per position; both spellings, of transformers before and since version 5."""
    scaling = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    plain = base_frequencies(base, head_dim)
    if kind not in _ROPE_TYPES:
        raise UserError(
            f"rotary scaling {kind!r} is not known", fix=f"Known: {', '.join(_ROPE_TYPES)}"
        )
    if kind == "default":
        return tuple(plain)
    factor = float(_need(scaling, "factor"))
    if kind == "linear":
        return tuple(f / factor for f in plain)
    low, high = float(_need(scaling, "low_freq_factor")), float(_need(scaling, "high_freq_factor"))
    trained = float(_need(scaling, "original_max_position_embeddings"))

    def scaled(frequency: float) -> float:
        """Slow rotations are stretched, fast ones kept, and between them it is blended."""
        turns = trained * frequency / (2 * math.pi)
        blend = min(max((turns - low) / (high - low), 0.0), 1.0)
        return (1 - blend) * frequency / factor + blend * frequency

    return tuple(scaled(f) for f in plain)


def _stop_tokens(config: Mapping[str, Any], generation: Mapping[str, Any]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for source in (generation, config):
        value = source.get("eos_token_id")
        for token in value if isinstance(value, list) else [value]:
            if token is not None:
                found[int(token)] = None
    return tuple(found)


def _need(config: Mapping[str, Any], key: str) -> Any:
    if config.get(key) is None:
        raise UserError(f"the configuration lacks {key!r}", fix=_FIX)
    return config[key]
