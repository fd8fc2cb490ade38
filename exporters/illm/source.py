"""A checkpoint of a decoder, whatever file it comes from: configuration, weights, tokenizer.

Weights are read when they are asked for, one layer at a time, as float32 in ``[in, out]`` order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.illm.config import Config

Array = NDArray[Any]

GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True)
class Layer:
    """Weights of one decoder layer, float32.

    Attributes:
        attention_gain, ffn_gain: of the two norms, ``[hidden]``.
        qkv: ``[hidden, (heads + 2 kv_heads) head_dim]``: queries, keys, values.
        qkv_bias: as wide, or None.
        output: ``[heads head_dim, hidden]``.
        gate_up: ``[hidden, 2 ffn]``: gate, up.
        down: ``[ffn, hidden]``.
        gate_smoothing: ``[ffn]`` or None: sigmoid sees the gate divided by it.
    """

    attention_gain: Array
    qkv: Array
    qkv_bias: Array | None
    output: Array
    ffn_gain: Array
    gate_up: Array
    down: Array
    gate_smoothing: Array | None = None


@dataclass(frozen=True)
class Texts:
    """What turns text into tokens and back.

    Attributes:
        tokenizer_json: in the format of the ``tokenizers`` library.
        chat_template: Jinja template of a conversation, or None.
    """

    tokenizer_json: str
    chat_template: str | None
    special_tokens: Mapping[str, str]


class Source(Protocol):
    """One checkpoint."""

    @property
    def config(self) -> Config: ...

    @property
    def texts(self) -> Texts: ...

    @property
    def sha256(self) -> str: ...

    @property
    def licence(self) -> str | None: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know: how the weights were stored."""
        ...

    def embedding(self) -> Array:
        """float32 ``[vocabulary, hidden]``."""
        ...

    def head(self) -> Array:
        """float32 ``[vocabulary, hidden]``: the output matrix."""
        ...

    def final_gain(self) -> Array: ...

    def layer(self, index: int) -> Layer: ...


def open_source(path: Path) -> Source:
    """The checkpoint at ``path``: a Hugging Face directory or a ``.gguf`` file.

    Raises:
        UserError: neither of the two, a file is missing or damaged, or the architecture is unknown.
        MissingRequirementError: the library that reads it is not installed.
    """
    if path.is_dir():
        from exporters.illm.huggingface import HuggingFaceSource

        return HuggingFaceSource(path)
    if not path.exists():
        raise UserError(f"no checkpoint at {path}", fix="Check --checkpoint")
    if path.suffix != GGUF_SUFFIX:
        raise UserError(
            f"{path} is neither a directory nor a .gguf file",
            fix="Give the directory with config.json and the .safetensors files, or a .gguf file",
        )
    from exporters.illm.gguf_file import GgufSource

    return GgufSource(path)


def shaped(array: Array, shape: tuple[int, ...], name: str) -> Array:
    """``array`` as float32 if it has ``shape``.

    Raises:
        UserError: it has another one: the configuration does not belong to these weights.
    """
    if tuple(array.shape) != shape:
        raise UserError(
            f"{name} has shape {list(array.shape)}, the configuration asks for {list(shape)}",
            fix="Check that config.json belongs to these weights",
        )
    return np.array(array, np.float32, order="C")  # a copy: the file may be mapped read-only
