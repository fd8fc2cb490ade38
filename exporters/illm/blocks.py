"""The two halves of a decoder layer as one ONNX function each.

Their bodies are the algorithms of `exporters.illm.decoder`. A runtime without a kernel for the
half writes the body out; one that has it starts two kernels a layer in place of some seven hundred
nodes. All that differs between layers is an input or an attribute, so a file carries each body
once.

Sizes and constants of the model are written into the body, and are attributes besides, for the
kernel to read.
"""

from __future__ import annotations

from dataclasses import replace

from exporters.illm.decoder import (
    LOG2_E,
    Cache,
    Gain,
    LayerValues,
    Linear,
    Positions,
    Setting,
    attention,
    feed_forward,
)
from exporters.ops.algebra import Operator, Value
from exporters.ops.dyadic import dyadic

_ATTENTION_INPUTS = (
    "h",
    "past",
    "past_scale",
    "cosine",
    "sine",
    "visible",
    "gain",
    "qkv",
    "qkv_scale",
    "kv_base",
    "output",
    "output_scale",
)
_FEED_FORWARD_INPUTS = ("h", "gain", "gate_up", "gate_up_scale", "down", "down_scale")


def attention_block(
    h: Value, layer: LayerValues, cache: Cache, at: Positions, setting: Setting
) -> tuple[Value, Cache]:
    """`exporters.illm.decoder.attention` as a call of ``edgeport::DIAttention``."""
    c, bias = setting.config, layer.qkv_bias
    linear = (layer.qkv.weight, layer.qkv.scale, layer.kv_base, layer.output.weight)
    inputs = [h, cache.kv, cache.scale, at.cosine, at.sine, at.visible]
    inputs += [layer.attention_gain.values, *linear, layer.output.scale]
    inputs += [] if bias is None else [bias.values]
    score_mantissa, score_exponent = dyadic(setting.score_scale)
    attributes = {
        "heads": c.heads,
        "kv_heads": c.kv_heads,
        **_rounding(setting),
        "mixing": c.key_mixing,
        "score_mantissa": score_mantissa,
        "score_exponent": score_exponent,
        "residual_exponent": setting.residual_exponent,
        "gain_exponent": layer.attention_gain.exponent,
        "qkv_exponent": layer.qkv.exponent,
        "bias_exponent": 0 if bias is None else bias.exponent,
        "key_exponent": layer.key_exponent,
        "value_exponent": layer.value_exponent,
        "output_exponent": layer.output.exponent,
    }

    def body(*inputs: Value, **attributes: Value) -> tuple[Value, Value, Value]:
        given, of = dict(zip(names, inputs, strict=True)), attributes
        inside = replace(
            layer,
            attention_gain=Gain(given["gain"], of["gain_exponent"]),
            qkv=Linear(given["qkv"], given["qkv_scale"], of["qkv_exponent"]),
            qkv_bias=Gain(given["bias"], of["bias_exponent"]) if "bias" in given else None,
            kv_base=given["kv_base"],
            key_exponent=of["key_exponent"],
            value_exponent=of["value_exponent"],
            output=Linear(given["output"], given["output_scale"], of["output_exponent"]),
        )
        past = Cache(given["past"], given["past_scale"])
        where = Positions(given["cosine"], given["sine"], given["visible"])
        result, now = attention(given["h"], inside, past, where, setting)
        return result, now.kv, now.scale

    names = (*_ATTENTION_INPUTS, *(() if bias is None else ("bias",)))
    called = Operator("DIAttention", body, names, tuple(attributes))
    result, kv, scale = h.backend.call(called, inputs, attributes)
    return result, Cache(kv, scale)


def feed_forward_block(h: Value, layer: LayerValues, setting: Setting) -> Value:
    """`exporters.illm.decoder.feed_forward` as a call of ``edgeport::DIFeedForward``."""
    smoothing = layer.gate_smoothing
    inputs = [h, layer.ffn_gain.values, layer.gate_up.weight, layer.gate_up.scale]
    inputs += [layer.down.weight, layer.down.scale]
    inputs += [] if smoothing is None else [smoothing.values]
    log2_e_mantissa, log2_e_exponent = dyadic(LOG2_E)
    attributes = {
        **_rounding(setting),
        "mixing": setting.config.gate_mixing,
        "log2_e_mantissa": log2_e_mantissa,
        "log2_e_exponent": log2_e_exponent,
        "residual_exponent": setting.residual_exponent,
        "gain_exponent": layer.ffn_gain.exponent,
        "gate_up_exponent": layer.gate_up.exponent,
        "smoothing_exponent": 0 if smoothing is None else smoothing.exponent,
        "down_exponent": layer.down.exponent,
    }

    def body(*inputs: Value, **attributes: Value) -> Value:
        given, of = dict(zip(names, inputs, strict=True)), attributes
        inside = replace(
            layer,
            ffn_gain=Gain(given["gain"], of["gain_exponent"]),
            gate_up=Linear(given["gate_up"], given["gate_up_scale"], of["gate_up_exponent"]),
            gate_smoothing=(
                Gain(given["smoothing"], of["smoothing_exponent"]) if "smoothing" in given else None
            ),
            down=Linear(given["down"], given["down_scale"], of["down_exponent"]),
        )
        return feed_forward(given["h"], inside, setting)

    names = (*_FEED_FORWARD_INPUTS, *(() if smoothing is None else ("smoothing",)))
    called = Operator("DIFeedForward", body, names, tuple(attributes))
    result: Value = h.backend.call(called, inputs, attributes)
    return result


def _rounding(setting: Setting) -> dict[str, int]:
    rows = setting.rows
    return {"levels": rows.levels, "steps": rows.steps, "parts": rows.parts}
