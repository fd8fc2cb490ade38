"""One decoder layer in PyTorch, smoothed and rounded along a graph that gradients can follow.

It rounds where the integer decoder (`exporters.illm.decoder`) rounds to few bits, and nowhere else:
rows before each matrix, queries, keys and values a head. Probabilities (16 bits), gate and up (18)
and the residual stream (30) stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from calibration.fsbr.held import MATRICES, Held
from calibration.fsbr.rounding import Levels, round_columns, round_rows
from exporters.illm.config import Config
from exporters.illm.float_decoder import mix, rotate
from exporters.illm.source import Layer


@dataclass(frozen=True)
class Block:
    """`exporters.illm.source.Layer` as tensors, on torch's default device."""

    attention_gain: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    output: Tensor
    ffn_gain: Tensor
    gate_up: Tensor
    down: Tensor
    gate_smoothing: Tensor | None = None

    @classmethod
    def of(cls, layer: Layer) -> Block:
        tensors: dict[str, Any] = {
            name: None if array is None else torch.as_tensor(array)
            for name, array in vars(layer).items()
        }
        return cls(**tensors)


def smoothed(block: Block, factors: Mapping[str, Tensor], config: Config) -> Block:
    """`exporters.illm.smoothing.smooth` for tensors.

    Args:
        factors: by the names and with the shapes of `exporters.illm.smoothing.Factors`.
    """
    c = config
    ones = torch.ones(())
    key, value = factors.get("key", ones), factors.get("value", ones)
    attention, ffn = factors.get("attention", ones), factors.get("ffn", ones)
    down, gate = factors.get("down", ones), factors.get("gate", ones)
    columns = torch.cat(
        [
            (1 / key).expand(c.kv_heads, c.head_dim).repeat_interleave(c.group, 0).flatten(),
            key.expand(c.kv_heads, c.head_dim).flatten(),
            (1 / value).expand(c.kv_heads, c.head_dim).flatten(),
        ]
    )
    by_query = value.expand(c.kv_heads, c.head_dim).repeat_interleave(c.group, 0).reshape(-1, 1)
    gates, ups = block.gate_up.chunk(2, -1)
    return replace(
        block,
        attention_gain=block.attention_gain / attention,
        qkv=block.qkv * attention.reshape(-1, 1) * columns,
        qkv_bias=None if block.qkv_bias is None else block.qkv_bias * columns,
        output=block.output * by_query,
        ffn_gain=block.ffn_gain / ffn,
        gate_up=torch.cat([gates * gate, ups / gate / down], -1) * ffn.reshape(-1, 1),
        down=block.down * down.reshape(-1, 1),
        gate_smoothing=factors.get("gate"),
    )


def rounded(block: Block, levels: Levels, held: Held) -> Block:
    """The block with its matrices rounded; smooth it before."""
    matrices = {
        name: round_columns(
            getattr(block, name), levels.weights, held.clips.get(name), held.errors.get(name)
        )
        for name in MATRICES
    }
    return replace(block, **matrices)


def run_block(hidden: Tensor, block: Block, config: Config, levels: Levels) -> Tensor:
    """One text through the block, its activations rounded, its weights as they are.

    Args:
        hidden: float32 ``[tokens, hidden]``, from position 0 on.
    """
    hidden = hidden + _attended(hidden, block, config, levels) @ block.output
    x = round_rows(_normed(hidden, block.ffn_gain, config), levels.activations)
    gate, up = (round_rows(z, levels.swiglu) for z in (x @ block.gate_up).chunk(2, -1))
    argument = gate if block.gate_smoothing is None else gate / block.gate_smoothing
    gated = gate * torch.sigmoid(argument) * up
    if config.mixed:
        gated = mix(gated)
    return hidden + round_rows(gated, levels.activations) @ block.down


def _attended(hidden: Tensor, block: Block, config: Config, levels: Levels) -> Tensor:
    c = config
    z = round_rows(_normed(hidden, block.attention_gain, c), levels.activations) @ block.qkv
    if block.qkv_bias is not None:
        z = z + block.qkv_bias
    heads = z.reshape(z.shape[0], -1, c.head_dim).transpose(0, 1)
    q, k, v = torch.split(heads, [c.heads, c.kv_heads, c.kv_heads])
    q, k = rotate(q, c), rotate(k, c)
    if c.mixed:
        q, k = mix(q) * 2**c.key_mixing, mix(k)
    q, k, v = (round_rows(x, levels.activations) for x in (q, k, v))
    k, v = (x.repeat_interleave(c.group, 0) for x in (k, v))
    attended = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    return round_rows(attended.transpose(0, 1).flatten(1), levels.activations)


def _normed(x: Tensor, gain: Tensor, config: Config) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + config.epsilon) * gain
