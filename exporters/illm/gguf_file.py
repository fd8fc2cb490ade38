"""A GGUF file, read through the ``gguf`` library; quantized blocks are dequantized to float32.

llama.cpp stores the query and key weights of LLaMA with rotary pairs next to each other; here a
pair is ``(i, i + head_dim / 2)``, so their rows are put back in that order. Qwen2 is not permuted.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from exporters.illm.config import ARCHITECTURES, Config, base_frequencies
from exporters.illm.gguf_tokenizer import texts_from_gguf
from exporters.illm.source import Array, Layer, Texts, shaped


class GgufSource:
    """Implements `exporters.illm.source.Source`."""

    def __init__(self, path: Path) -> None:
        if find_spec("gguf") is None:
            raise MissingRequirementError(
                "gguf is not installed; reading this checkpoint needs it",
                fix="pip install 'edgeport[llm]'",
            )
        import gguf

        self.path = path
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, OSError) as error:
            raise UserError(
                f"{path} is no readable GGUF file: {error}",
                fix="It may be truncated or of another format; copy it again",
            ) from error
        self._fields = dict(reader.fields)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.config: Config = self._read_config()

    @cached_property
    def sha256(self) -> str:
        return sha256_file(self.path)

    @property
    def licence(self) -> str | None:
        value = self._value("general.license")
        return None if value is None else str(value)

    @property
    def notes(self) -> tuple[str, ...]:
        kinds = Counter(tensor.tensor_type.name for tensor in self._tensors.values())
        stored = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return (f"weights dequantized from GGUF ({stored}): quantization to 4 bits is flattered",)

    @cached_property
    def texts(self) -> Texts:
        return texts_from_gguf(self._value, self.path)

    def embedding(self) -> Array:
        return self._matrix("token_embd.weight", self.config.vocabulary, self.config.hidden)

    def head(self) -> Array:
        if self.config.tied:
            return self.embedding()
        return self._matrix("output.weight", self.config.vocabulary, self.config.hidden)

    def final_gain(self) -> Array:
        return self._matrix("output_norm.weight", self.config.hidden)

    def layer(self, index: int) -> Layer:
        c, prefix = self.config, f"blk.{index}."

        def matrix(name: str, *shape: int) -> Array:
            return self._matrix(prefix + name, *shape)

        widths = {"q": c.attention_width, "k": c.kv_width, "v": c.kv_width}
        qkv, bias = [], []
        for key, width in widths.items():
            order = self._rotary_order(width) if key != "v" else slice(None)
            qkv.append(matrix(f"attn_{key}.weight", width, c.hidden)[order])
            if c.biased:
                bias.append(matrix(f"attn_{key}.bias", width)[order])
        gate_up = [matrix(f"ffn_{key}.weight", c.ffn, c.hidden) for key in ("gate", "up")]
        return Layer(
            attention_gain=matrix("attn_norm.weight", c.hidden),
            qkv=np.concatenate(qkv).T,
            qkv_bias=np.concatenate(bias) if bias else None,
            output=matrix("attn_output.weight", c.hidden, c.attention_width).T,
            ffn_gain=matrix("ffn_norm.weight", c.hidden),
            gate_up=np.concatenate(gate_up).T,
            down=matrix("ffn_down.weight", c.hidden, c.ffn).T,
        )

    def _rotary_order(self, width: int) -> Any:
        """Rows from neighbouring pairs to halves, head by head."""
        if self.config.architecture != "llama":
            return slice(None)
        head = self.config.head_dim
        rows = np.arange(width).reshape(width // head, head // 2, 2)
        return rows.swapaxes(1, 2).reshape(width)

    def _read_config(self) -> Config:
        architecture = str(self._value("general.architecture"))
        if architecture not in ARCHITECTURES:
            raise UserError(
                f"{self.path} holds architecture {architecture!r}, which is not known",
                fix=f"Known: {', '.join(ARCHITECTURES)}",
            )

        def need(key: str) -> Any:
            value = self._value(f"{architecture}.{key}")
            if value is None:
                raise UserError(
                    f"{self.path} lacks the key {architecture}.{key}", fix="Convert it again"
                )
            return value

        hidden, heads = int(need("embedding_length")), int(need("attention.head_count"))
        head_dim = int(self._value(f"{architecture}.attention.key_length") or hidden // heads)
        begins = self._value("tokenizer.ggml.add_bos_token")
        begin = self._value("tokenizer.ggml.bos_token_id")
        stops = (
            self._value("tokenizer.ggml.eos_token_id"),
            self._value("tokenizer.ggml.eot_token_id"),
        )
        return Config(
            architecture=architecture,
            hidden=hidden,
            layers=int(need("block_count")),
            heads=heads,
            kv_heads=int(self._value(f"{architecture}.attention.head_count_kv") or heads),
            head_dim=head_dim,
            ffn=int(need("feed_forward_length")),
            vocabulary=int(self._tensor("token_embd.weight").shape[1]),
            context=int(need("context_length")),
            epsilon=float(need("attention.layer_norm_rms_epsilon")),
            frequencies=self._frequencies(architecture, head_dim),
            tied="output.weight" not in self._tensors,
            biased="blk.0.attn_q.bias" in self._tensors,
            stop_tokens=tuple(dict.fromkeys(int(stop) for stop in stops if stop is not None)),
            begin_token=int(begin) if begins and begin is not None else None,
        )

    def _frequencies(self, architecture: str, head_dim: int) -> tuple[float, ...]:
        plain = base_frequencies(
            float(self._value(f"{architecture}.rope.freq_base") or 10000.0), head_dim
        )
        kind = self._value(f"{architecture}.rope.scaling.type") or "none"
        if "rope_freqs.weight" in self._tensors:  # LLaMA 3: one divisor a pair
            divisors = self._matrix("rope_freqs.weight", head_dim // 2)
            return tuple(f / float(d) for f, d in zip(plain, divisors, strict=True))
        if kind == "linear":
            factor = float(self._value(f"{architecture}.rope.scaling.factor") or 1.0)
            return tuple(f / factor for f in plain)
        if kind != "none":
            raise UserError(
                f"{self.path} has rotary scaling {kind!r}", fix="Known: none, linear, LLaMA 3's"
            )
        return tuple(plain)

    def _value(self, key: str) -> Any:
        field = self._fields.get(key)
        return None if field is None else field.contents()

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            raise UserError(f"{self.path} holds no tensor {name!r}", fix="Convert it again")
        return self._tensors[name]

    def _matrix(self, name: str, *shape: int) -> Array:
        import gguf

        tensor = self._tensor(name)
        try:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise UserError(
                f"{name} is stored as {tensor.tensor_type.name}, which gguf cannot dequantize",
                fix="Convert the model to F16 or Q8_0",
            ) from error
        return shaped(values, shape, name)
