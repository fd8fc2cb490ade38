"""The same decoder in float32, as ONNX of standard operators: the reference of every comparison.

Inputs and outputs are those of the integer model; the cache holds float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from exporters.illm.config import Config
from exporters.illm.source import Layer
from exporters.ops.algebra import Value, concat
from exporters.ops.onnx_backend import GraphBackend, Shape

if TYPE_CHECKING:
    import onnx

    from exporters.illm.source import Source


class FloatEmission:
    """Writes the graph, layer by layer."""

    def __init__(self, config: Config, context: int) -> None:
        self._config, self._context = config, context
        self._graph = GraphBackend()

    def write(self, source: Source) -> onnx.ModelProto:
        c, g = self._config, self._graph
        ids = g.input("input_ids", "int64", [1, "tokens"])
        keep = g.input("logits_to_keep", "int64", [1])
        shape: Shape = [1, 2 * c.kv_heads, "past", c.head_dim]
        past = [g.input(f"past.{i}.kv", "float32", shape) for i in range(c.layers)]
        head = g.weight("head.weight", source.head().T)
        table = head if c.tied else g.weight("embedding.weight", source.embedding().T)
        with g.scope("embed"):
            h = table.gather(ids, axis=1).transpose(1, 2, 0)
            cosine, sine, bias = self._positions(ids, past[0])
        for index, cache in enumerate(past):
            with g.scope(f"layers.{index}"):
                h, now = self._layer(h, source.layer(index), index, cache, (cosine, sine, bias))
            shape = [1, 2 * c.kv_heads, "total", c.head_dim]
            g.output(now, f"present.{index}.kv", "float32", shape)
        with g.scope("head"):
            end = g.constant([2**62])
            last = g.apply("Slice", h, -keep, end, g.constant([1]))
            normed = self._norm(last, g.weight("head.gain", source.final_gain()))
            logits = g.apply("MatMul", normed, head)
            token = g.apply("ArgMax", logits, axis=-1, keepdims=0)
        g.output(token, "next_token", "int64", [1, "kept"])
        g.output(logits, "logits", "float32", [1, "kept", c.vocabulary])
        return g.model("illm-float")

    def _positions(self, ids: Value, cache: Value) -> tuple[Value, Value, Value]:
        c, g = self._config, self._graph
        zero, one = g.constant([0]), g.constant(1)
        first = cache.size(2)
        end = first + ids.size(1)

        def counted(start: Value, stop: Value) -> Value:
            scalars = [g.apply("Squeeze", value, zero) for value in (start, stop)]
            return g.apply("Range", *scalars, one)

        now = counted(first, end)
        angles = np.arange(self._context)[:, None] * np.array(c.frequencies)
        tables = [
            g.weight(f"rotary.{name}", values.astype(np.float32)).gather(now)
            for name, values in (("cosine", np.cos(angles)), ("sine", np.sin(angles)))
        ]
        asking = concat([now] * c.group, 0).unsqueeze(1)
        visible = asking >= counted(zero, end).unsqueeze(0)
        nothing, hidden = self._number(0.0), self._number(-1e30)
        return tables[0], tables[1], g.apply("Where", visible, nothing, hidden)

    def _layer(
        self, h: Value, layer: Layer, index: int, cache: Value, at: tuple[Value, Value, Value]
    ) -> tuple[Value, Value]:
        g, name = self._graph, f"layers.{index}."

        def product(x: Value, key: str, weight: Any) -> Value:
            return g.apply("MatMul", x, g.weight(f"{name}{key}.weight", weight))

        x = self._norm(h, g.weight(name + "attention.gain", layer.attention_gain))
        z = product(x, "qkv", layer.qkv)
        if layer.qkv_bias is not None:
            z = z + g.weight(name + "qkv.bias", layer.qkv_bias)
        attended, now = self._attention(z, cache, at)
        h = h + product(attended, "output", layer.output)
        x = self._norm(h, g.weight(name + "ffn.gain", layer.ffn_gain))
        gate, up = product(x, "gate_up", layer.gate_up).split(2, -1)
        gated = gate * g.apply("Sigmoid", gate) * up
        return h + product(gated, "down", layer.down), now

    def _attention(
        self, z: Value, cache: Value, at: tuple[Value, Value, Value]
    ) -> tuple[Value, Value]:
        c, g = self._config, self._graph
        cosine, sine, bias = at
        heads = z.reshape(0, -1, c.heads + 2 * c.kv_heads, c.head_dim).transpose(0, 2, 1, 3)
        rotary, values = heads.split([c.heads + c.kv_heads, c.kv_heads], 1)
        first, second = rotary.split(2, -1)
        turned = [first * cosine - second * sine, second * cosine + first * sine]
        q, keys = concat(turned, -1).split([c.heads, c.kv_heads], 1)
        now = concat([cache, concat([keys, values], 1)], 2)
        keys, values = now.split(2, 1)
        folded = q.reshape(0, c.kv_heads, -1, c.head_dim)
        scores = g.apply("MatMul", folded, keys.transpose(0, 1, 3, 2))
        scaled = scores * self._number(1 / math.sqrt(c.head_dim)) + bias
        attended = g.apply("MatMul", g.apply("Softmax", scaled, axis=-1), values)
        by_head = attended.reshape(0, c.heads, -1, c.head_dim).transpose(0, 2, 1, 3)
        return by_head.reshape(0, -1, c.attention_width), now

    def _norm(self, x: Value, gain: Value) -> Value:
        g = self._graph
        mean = g.apply("ReduceMean", x * x, g.constant([-1]), keepdims=1)
        root = g.apply("Sqrt", mean + self._number(self._config.epsilon))
        return g.apply("Div", x, root) * gain

    def _number(self, value: float) -> Value:
        return self._graph.constant(value, "float32")
