"""The integer decoder: one algorithm for a prompt and for a token, in any backend of our operators.

No floating-point tensor occurs between token ids and logits. Scales are dyadic numbers per token;
the residual stream has one fixed exponent; keys and values are cached as 8-bit integers with a
scale per token and head. That scale is an integer in units of a fixed 2^-b per layer, so what a
token leaves in the cache does not depend on what is there already, and a prompt gives bit for bit
what its tokens give one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from exporters.illm.config import Config
from exporters.ops.algebra import Backend, Value, concat
from exporters.ops.dyadic import dyadic, dyadic_align, dyadic_common, dyadic_product
from exporters.ops.hadamard import mixed
from exporters.ops.matmul import di_bias, di_matmul, di_matmul_wide
from exporters.ops.norm import di_rms_norm_wide, normed_rows
from exporters.ops.primitives import rounded
from exporters.ops.quantize import ZERO_POINT, RowRounding, quantized_rows
from exporters.ops.residual import di_residual_add
from exporters.ops.rotary import ROTARY_BITS, di_rotary
from exporters.ops.softmax import di_clipped_softmax
from exporters.ops.swiglu import SIGMOID_BITS, di_swiglu

LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Linear:
    """Attributes: weight int8 ``[in, out]``; scale int64 ``[out]``, in units of 2^-exponent.

    Exponents are numbers, or inside a function the values of its attributes.
    """

    weight: Value
    scale: Value
    exponent: int | Value


@dataclass(frozen=True)
class Gain:
    """int64, in units of 2^-exponent."""

    values: Value
    exponent: int | Value


@dataclass(frozen=True)
class LayerValues:
    """One layer's constants.

    Attributes:
        kv_base: int64 ``[1, 2 kv_heads, 1, 1]``: cached scales are in units of 2^-base.
        key_exponent, value_exponent: the two values in it.
        gate_smoothing: int64 ``[ffn]`` or None: what the gate is multiplied by for the sigmoid.
    """

    attention_gain: Gain
    qkv: Linear
    qkv_bias: Gain | None
    kv_base: Value
    key_exponent: int | Value
    value_exponent: int | Value
    output: Linear
    ffn_gain: Gain
    gate_up: Linear
    gate_smoothing: Gain | None
    down: Linear


@dataclass(frozen=True)
class Cache:
    """Attributes: kv int8 ``[1, 2 kv_heads, tokens, head_dim]``; scale int32, one a row."""

    kv: Value
    scale: Value


@dataclass(frozen=True)
class ModelValues:
    """Constants outside the layers.

    Attributes:
        embedding: int8 ``[hidden, vocabulary]`` (tied: the output matrix itself).
        cosine, sine: int16 ``[context, head_dim / 2]``.
    """

    embedding: Linear
    cosine: Value
    sine: Value
    final_gain: Gain
    head: Linear


@dataclass(frozen=True)
class Setting:
    """Attributes: rows: how they are rounded; residual_exponent: of the stream's unit."""

    config: Config
    rows: RowRounding
    residual_exponent: int

    @property
    def score_scale(self) -> float:
        """What products of queries and keys are multiplied by; both are mixed over 2^p."""
        c = self.config
        return LOG2_E / math.sqrt(c.head_dim) * 2.0**c.key_mixing


@dataclass(frozen=True)
class Positions:
    """Where the new tokens are.

    Attributes:
        cosine, sine: int64 ``[tokens, head_dim / 2]``.
        visible: bool ``[group tokens, all tokens]``: which keys a query sees.
    """

    cosine: Value
    sine: Value
    visible: Value


@dataclass(frozen=True)
class Outcome:
    """What a step gives.

    Attributes:
        logits: int64 ``[1, kept, vocabulary]``; the real ones are logits mantissa / 2^exponent.
        mantissa, exponent: int64 ``[1, kept, 1]``.
        next_token: int64 ``[1, kept]``: the likeliest, the first one of equals.
        present: the cache with the new tokens, layer by layer.
    """

    logits: Value
    mantissa: Value
    exponent: Value
    next_token: Value
    present: tuple[Cache, ...]


Attend = Callable[[Value, LayerValues, Cache, Positions, Setting], tuple[Value, Cache]]
Feed = Callable[[Value, LayerValues, Setting], Value]


def decode(
    ids: Value,
    keep: Value,
    past: list[Cache],
    model: ModelValues,
    layer: Callable[[int], LayerValues],
    setting: Setting,
    scope: Callable[[str], AbstractContextManager[None]] | None = None,
    attend: Attend | None = None,
    feed: Feed | None = None,
) -> Outcome:
    """Tokens after ``past``, all at once.

    Args:
        ids: int64 ``[1, tokens]``.
        keep: int64 ``[1]``: of how many last tokens the logits are wanted.
        layer: gives a layer's constants; called once for each.
        scope: names what is written inside.
        attend, feed: the halves of a layer in another form, `attention` and `feed_forward` if None.
    """
    backend, named = ids.backend, scope or _unnamed
    with named("embed"):
        h = _embed(ids, model.embedding, setting.residual_exponent)
        positions = _positions(ids, past[0], model, setting.config)
    present = []
    for index, cache in enumerate(past):
        values = layer(index)
        with named(f"layers.{index}/attention"):
            h, now = (attend or attention)(h, values, cache, positions, setting)
        present.append(now)
        with named(f"layers.{index}/ffn"):
            h = (feed or feed_forward)(h, values, setting)
    with named("head"):
        end = backend.constant([2**62])
        last = backend.apply("Slice", h, -keep, end, backend.constant([1]))
        # with 8 bits these rows alone cost a percent of perplexity, more than all layers do
        high, low, m, k = di_rms_norm_wide(
            last,
            model.final_gain.values,
            channels=setting.config.hidden,
            gain_exponent=model.final_gain.exponent,
        )
        logits = di_matmul_wide(high, low, model.head.weight, model.head.scale)
        token = backend.apply("ArgMax", logits, axis=-1, keepdims=0)
        return Outcome(logits, m, k + model.head.exponent, token, tuple(present))


def _unnamed(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def _embed(ids: Value, table: Linear, residual_exponent: int) -> Value:
    columns = table.weight.gather(ids, axis=1).transpose(1, 2, 0).cast("int64")
    scaled = columns * table.scale.gather(ids).unsqueeze(-1)
    assert isinstance(table.exponent, int)  # the embedding is in no function
    down = table.exponent - residual_exponent
    return rounded(scaled, 1 << down) if down > 0 else scaled * (1 << -down)


def _positions(ids: Value, cache: Cache, model: ModelValues, config: Config) -> Positions:
    backend = ids.backend
    first = cache.kv.size(2)
    end = first + ids.size(1)

    def counted(start: Value, stop: Value) -> Value:
        zero, one = backend.constant([0]), backend.constant(1)
        scalars = [backend.apply("Squeeze", value, zero) for value in (start, stop)]
        return backend.apply("Range", *scalars, one)

    now = counted(first, end)
    asking = concat([now] * config.group, 0).unsqueeze(1)
    visible = asking >= counted(backend.constant([0]), end).unsqueeze(0)
    cosine, sine = (table.gather(now).cast("int64") for table in (model.cosine, model.sine))
    return Positions(cosine, sine, visible)


def attention(
    h: Value, layer: LayerValues, cache: Cache, at: Positions, setting: Setting
) -> tuple[Value, Cache]:
    """``h`` with attention added, and the cache with its tokens."""
    c = setting.config
    gain = layer.attention_gain
    x, xm, xk = normed_rows(h, gain.values, c.hidden, gain.exponent, setting.rows)
    z = di_matmul(x, layer.qkv.weight, layer.qkv.scale)
    if layer.qkv_bias is not None:
        offset = layer.qkv.exponent - layer.qkv_bias.exponent
        z = di_bias(z, layer.qkv_bias.values, xm, xk, offset=offset)
    q, qm, qk, now = _queries_and_cache(z, xm, xk, layer, at, setting)
    now = Cache(concat([cache.kv, now.kv], 2), concat([cache.scale, now.scale], 2))

    keys, values = now.kv.split(2, 1)
    key_scale, value_scale = now.scale.cast("int64").transpose(0, 1, 3, 2).split(2, 1)
    zero = h.backend.constant(ZERO_POINT, "uint8")
    scores = h.backend.apply("MatMulInteger", q, keys.transpose(0, 1, 3, 2), zero)
    m, k = _times(qm, qk + layer.key_exponent, setting.score_scale)
    high, low, pm, pk = di_clipped_softmax(
        scores.cast("int64") * key_scale, m, k, at.visible, value_scale
    )
    products = (h.backend.apply("MatMulInteger", p, values).cast("int64") for p in (high, low))
    attended = next(products) + rounded(next(products), 256)
    x, m, k = _merged(attended, pm, pk + (layer.value_exponent - 8), setting)
    z = di_matmul(x, layer.output.weight, layer.output.scale)
    offset = layer.output.exponent - setting.residual_exponent
    return di_residual_add(h, z, m, k, offset=offset), now


def _queries_and_cache(
    z: Value, xm: Value, xk: Value, layer: LayerValues, at: Positions, setting: Setting
) -> tuple[Value, Value, Value, Cache]:
    """Rotated queries, folded so that a group shares its keys, and this step's cache rows."""
    c = setting.config
    heads = z.reshape(0, -1, c.heads + 2 * c.kv_heads, c.head_dim).transpose(0, 2, 1, 3)
    rotary, values = heads.split([c.heads + c.kv_heads, c.kv_heads], 1)
    rotary = di_rotary(rotary, at.cosine, at.sine)
    rotary = mixed(rotary, bits=c.key_mixing, rank=4)
    together = concat([rotary, values * (1 << ROTARY_BITS)], 1)
    u, m, k = quantized_rows(together, setting.rows)
    m, k = dyadic_product(
        m, k + (layer.qkv.exponent + ROTARY_BITS), xm.unsqueeze(1), xk.unsqueeze(1)
    )
    sizes = [c.heads, 2 * c.kv_heads]
    (q, kv), (qm, kvm), (qk, kvk) = (part.split(sizes, 1) for part in (u, m, k))
    folded = [
        part.reshape(0, c.kv_heads, -1, width)
        for part, width in ((q, c.head_dim), (qm, 1), (qk, 1))
    ]
    signed = (kv.cast("int32") - kv.backend.constant(ZERO_POINT, "int32")).cast("int8")
    scale = dyadic_align(kvm, kvk, layer.kv_base).cast("int32")
    return folded[0], folded[1], folded[2], Cache(signed, scale)


def _merged(attended: Value, m: Value, k: Value, setting: Setting) -> tuple[Value, Value, Value]:
    """Heads of each token side by side, quantized as one row."""
    c = setting.config
    by_head, m, k = (
        part.reshape(0, c.heads, -1, width)
        for part, width in ((attended, c.head_dim), (m, 1), (k, 1))
    )
    factor, common = dyadic_common(m, k)
    row = (by_head * factor).transpose(0, 2, 1, 3).reshape(0, -1, c.attention_width)
    x, m, k = quantized_rows(row, setting.rows)
    return x, m, k + common.reshape(0, -1, 1)


def feed_forward(h: Value, layer: LayerValues, setting: Setting) -> Value:
    """``h`` with the gated feed-forward part added."""
    c = setting.config
    gain = layer.ffn_gain
    x, xm, xk = normed_rows(h, gain.values, c.hidden, gain.exponent, setting.rows)
    gate, up = di_matmul(x, layer.gate_up.weight, layer.gate_up.scale).split(2, -1)
    exponent, argument = layer.gate_up.exponent, gate
    extra: int | Value = 0
    if layer.gate_smoothing is not None:
        argument, extra = gate * layer.gate_smoothing.values, layer.gate_smoothing.exponent
    m, k = _times(xm, xk + (exponent + extra), LOG2_E)
    y, shift = di_swiglu(gate, argument, up, m, k)
    y = mixed(y, bits=c.gate_mixing, rank=3)
    x, m, k = quantized_rows(y, setting.rows)
    m, k = dyadic_product(m, k - shift + (SIGMOID_BITS + 2 * exponent), xm, xk)
    m, k = dyadic_product(m, k, xm, xk)
    z = di_matmul(x, layer.down.weight, layer.down.scale)
    offset = layer.down.exponent - setting.residual_exponent
    return di_residual_add(h, z, m, k, offset=offset)


def _times(mantissa: Value, exponent: Value, constant: float) -> tuple[Value, Value]:
    m, k = dyadic(constant)
    backend: Backend = mantissa.backend
    return dyadic_product(mantissa, exponent, backend.constant(m), backend.constant(k))
