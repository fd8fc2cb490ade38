"""Smoothing: channels of like ranges before quantisation, in a network that stays the same.

Between two linear maps a channel may be divided by s in one and multiplied by s in the other. The
pairs of I-LLM's fully-smooth block reconstruction (arXiv:2405.17849, section 3.1):

| pair          | divided by s            | multiplied by s  | what gets easier to quantize |
|---------------|-------------------------|------------------|------------------------------|
| ``attention`` | gain of the first norm  | rows of q, k, v  | the norm's output            |
| ``value``     | columns of v            | rows of o        | what attention gives         |
| ``key``       | columns of q            | columns of k     | keys beside queries          |
| ``ffn``       | gain of the second norm | rows of gate, up | the norm's output            |
| ``down``      | columns of up           | rows of down     | the gated product            |

s = peak^alpha / weight^(1 - alpha) per channel, alpha = 1/2, scaled to a geometric mean of one. The
key pair has s equal in both halves of a rotary pair, or rotation would not commute with it; and
values of a group of query heads share theirs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from exporters.errors import UserError, did_you_mean
from exporters.illm.config import Config
from exporters.illm.float_decoder import Peaks
from exporters.illm.source import Array, Layer

PAIRS = ("attention", "value", "key", "ffn", "down")
ALPHA = 0.5
_FLOOR = 1e-4


@dataclass(frozen=True)
class Factors:
    """What each channel is divided and multiplied by; None leaves a pair alone.

    Attributes:
        attention, ffn: ``[hidden]``. value: ``[kv_heads, head_dim]``.
        key: ``[kv_heads, head_dim]``, equal in both halves. down: ``[ffn]``.
        gate: ``[ffn]``: the gate is multiplied by it and up divided, and sigmoid sees the gate
            divided by it again (smoothing of the nonlinear activation; learned, never analytic).
    """

    attention: Array | None = None
    value: Array | None = None
    key: Array | None = None
    ffn: Array | None = None
    down: Array | None = None
    gate: Array | None = None


def analytic_factors(
    layer: Layer, peaks: Peaks, config: Config, pairs: Collection[str] = PAIRS
) -> Factors:
    """Factors from the peaks of activations and weights, for the named pairs.

    Raises:
        UserError: unknown pair.
    """
    for pair in pairs:
        if pair not in PAIRS:
            raise UserError(f"unknown smoothing pair {pair!r}", fix=did_you_mean(pair, PAIRS))
    c = config
    by_head = (c.kv_heads, c.group, c.head_dim)
    output = np.abs(layer.output).max(1).reshape(by_head).max(1)
    attended = peaks.attention_out.reshape(by_head).max(1)
    found = {
        "attention": _balanced(peaks.attention_in, np.abs(layer.qkv).max(1)),
        "value": _balanced(attended, output),
        "key": _key_factors(peaks, config),
        "ffn": _balanced(peaks.ffn_in, np.abs(layer.gate_up).max(1)),
        "down": _balanced(peaks.gated, np.abs(layer.down).max(1)),
    }
    return Factors(**{pair: found[pair] for pair in pairs})


def smooth(layer: Layer, factors: Factors, config: Config) -> Layer:
    """The same network with ``factors`` folded into its weights."""
    c = config
    qkv, bias = layer.qkv.copy(), None if layer.qkv_bias is None else layer.qkv_bias.copy()
    output, gate_up, down = layer.output.copy(), layer.gate_up.copy(), layer.down.copy()
    attention_gain, ffn_gain, gate_smoothing = layer.attention_gain, layer.ffn_gain, None
    columns = np.ones(qkv.shape[1], np.float32)
    if factors.attention is not None:
        attention_gain = attention_gain / factors.attention
        qkv *= factors.attention[:, None]
    if factors.key is not None:
        columns[: c.attention_width] /= np.repeat(factors.key, c.group, 0).ravel()
        columns[c.attention_width : -c.kv_width] *= factors.key.ravel()
    if factors.value is not None:
        columns[-c.kv_width :] /= factors.value.ravel()
        output *= np.repeat(factors.value, c.group, 0).reshape(-1, 1)
    qkv *= columns
    if bias is not None:
        bias *= columns
    if factors.ffn is not None:
        ffn_gain = ffn_gain / factors.ffn
        gate_up *= factors.ffn[:, None]
    if factors.gate is not None:
        gate_up[:, : c.ffn] *= factors.gate
        gate_up[:, c.ffn :] /= factors.gate
        gate_smoothing = factors.gate.astype(np.float32)
    if factors.down is not None:
        gate_up[:, c.ffn :] /= factors.down
        down *= factors.down[:, None]
    return replace(
        layer,
        attention_gain=attention_gain,
        qkv=qkv,
        qkv_bias=bias,
        output=output,
        ffn_gain=ffn_gain,
        gate_up=gate_up,
        down=down,
        gate_smoothing=gate_smoothing,
    )


def _balanced(activation: Array, weight: Array) -> Array:
    activation, weight = np.maximum(activation, _FLOOR), np.maximum(weight, _FLOOR)
    return _centred(activation**ALPHA / weight ** (1 - ALPHA))


def _key_factors(peaks: Peaks, config: Config) -> Array:
    """Queries and keys of a channel get the same range; one factor a rotary pair."""
    query = peaks.query.reshape(config.kv_heads, config.group, config.head_dim).max(1)
    half = config.head_dim // 2
    query, key = (np.maximum(x[:, :half], x[:, half:]) for x in (query, peaks.key))
    s = np.sqrt(np.maximum(query, _FLOOR) / np.maximum(key, _FLOOR))
    s = np.exp(np.log(s) - np.log(s).mean(1, keepdims=True))
    return np.asarray(np.concatenate([s, s], 1), np.float32)


def _centred(s: Array) -> Array:
    return np.asarray(s / np.exp(np.log(s).mean()), np.float32)
