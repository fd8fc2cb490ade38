"""The decoder in float32 PyTorch, layer by layer: the reference, and where statistics come from.

Nothing but one layer's weights is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exporters.illm.config import Config
from exporters.illm.source import Array, Layer, Source
from exporters.ops.hadamard import block_hadamard

SINK_TOKENS = 4
"""The first tokens of a text carry massive activations, which no other token has: their statistics
would smooth for the exception."""


@dataclass
class Peaks:
    """Largest magnitudes in one layer, per channel, over all texts (without their first tokens).

    Attributes:
        attention_in, ffn_in: outputs of the norms, ``[hidden]``.
        query: ``[heads, head_dim]``; key, value: ``[kv_heads, head_dim]``; after rotation.
        attention_out: ``[heads head_dim]``; gated: ``[ffn]``.
        residual: of the stream after this layer, all tokens.
    """

    attention_in: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    query: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    key: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    value: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    attention_out: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    ffn_in: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    gated: Array = field(default_factory=lambda: np.zeros(1, np.float32))
    residual: float = 0.0

    def see(self, name: str, tokens: Tensor, axes: tuple[int, ...], skip: int) -> None:
        """Take in ``tokens``, whose token axis is the last but one."""
        kept = tokens.narrow(-2, skip, tokens.shape[-2] - skip)
        peak = kept.abs().amax(axes).numpy()
        setattr(self, name, np.maximum(getattr(self, name), peak))


class Watcher(Protocol):
    """Takes in what passes through a layer, by `Peaks`' names."""

    residual: float

    def see(self, name: str, tokens: Tensor, axes: tuple[int, ...], skip: int) -> None: ...


def run_layer(
    hidden: Tensor, layer: Layer, config: Config, peaks: Watcher | None = None, *, skip: int = 0
) -> Tensor:
    """One decoder layer over a whole text.

    Args:
        hidden: float32 ``[tokens, hidden]``, from position 0 on.
        peaks: takes in what this text shows, from token ``skip`` on.
    """

    def see(name: str, tokens: Tensor, axes: tuple[int, ...]) -> None:
        if peaks is not None:
            peaks.see(name, tokens, axes, skip)

    c = config
    x = rms_norm(hidden, layer.attention_gain, c.epsilon)
    see("attention_in", x, (0,))
    z = x @ torch.from_numpy(layer.qkv)
    if layer.qkv_bias is not None:
        z = z + torch.from_numpy(layer.qkv_bias)
    parts = torch.split(z, [c.attention_width, c.kv_width, c.kv_width], -1)
    q, k, v = (part.reshape(part.shape[0], -1, c.head_dim).transpose(0, 1) for part in parts)
    q, k = rotate(q, config), rotate(k, config)
    if c.mixed:
        q, k = mix(q) * 2**c.key_mixing, mix(k)
    for name, heads in (("query", q), ("key", k), ("value", v)):
        see(name, heads, (1,))
    keys, values = (heads.repeat_interleave(c.group, 0)[None] for heads in (k, v))
    attended = F.scaled_dot_product_attention(q[None], keys, values, is_causal=True)[0]
    attended = attended.transpose(0, 1).flatten(1)
    see("attention_out", attended, (0,))
    hidden = hidden + attended @ torch.from_numpy(layer.output)
    x = rms_norm(hidden, layer.ffn_gain, c.epsilon)
    see("ffn_in", x, (0,))
    gate, up = (x @ torch.from_numpy(layer.gate_up)).chunk(2, -1)
    argument = gate
    if layer.gate_smoothing is not None:
        argument = gate / torch.from_numpy(layer.gate_smoothing)
    gated = gate * torch.sigmoid(argument) * up
    if c.mixed:
        gated = mix(gated)
    see("gated", gated, (0,))
    hidden = hidden + gated @ torch.from_numpy(layer.down)
    if peaks is not None:
        peaks.residual = max(peaks.residual, float(hidden.abs().max()))
    return hidden


def rms_norm(x: Tensor, gain: Array, epsilon: float) -> Tensor:
    scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + epsilon)
    return x * scale * torch.from_numpy(gain)


def mix(x: Tensor) -> Tensor:
    """Blocks of the last axis times their Hadamard matrix, over its size (not its root)."""
    matrix = torch.as_tensor(block_hadamard(x.shape[-1]), device=x.device)
    blocks = x.reshape(*x.shape[:-1], -1, len(matrix))
    return torch.matmul(blocks, matrix / len(matrix)).flatten(-2)


def rotate(heads: Tensor, config: Config) -> Tensor:
    """Rotary embedding of ``[heads, tokens, head_dim]`` from position 0 on."""
    positions = torch.arange(heads.shape[1], dtype=torch.float64, device=heads.device)
    turns = torch.tensor(config.frequencies, dtype=torch.float64, device=heads.device)
    angles = positions[:, None] * turns
    cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def observe(source: Source, texts: list[list[int]]) -> Iterator[tuple[Layer, Peaks]]:
    """Each layer with what it shows on ``texts``; the next one is read when it is asked for.

    Args:
        texts: token ids, one list a text.
    """
    table = torch.from_numpy(source.embedding())
    streams = [table[torch.tensor(ids)] for ids in texts]
    peak = max(float(stream.abs().max()) for stream in streams)
    with torch.no_grad():
        for index in range(source.config.layers):
            layer, peaks = source.layer(index), Peaks(residual=peak)
            for text, stream in enumerate(streams):
                skip = SINK_TOKENS if stream.shape[0] > 4 * SINK_TOKENS else 0
                streams[text] = run_layer(stream, layer, source.config, peaks, skip=skip)
            yield layer, peaks


def logits(source: Source, ids: list[int]) -> Array:
    """float32 ``[tokens, vocabulary]`` of one text."""
    hidden = torch.from_numpy(source.embedding())[torch.tensor(ids)]
    with torch.no_grad():
        for index in range(source.config.layers):
            hidden = run_layer(hidden, source.layer(index), source.config)
        normed = rms_norm(hidden, source.final_gain(), source.config.epsilon)
        result: Array = (normed @ torch.from_numpy(source.head()).T).numpy()
    return result
