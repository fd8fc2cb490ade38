"""A checkpoint in integers, put as constants where the decoder runs: into a graph, or as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from exporters.illm.config import Config
from exporters.illm.decoder import Gain, LayerValues, Linear, ModelValues
from exporters.illm.float_decoder import Peaks
from exporters.illm.source import Array, Layer
from exporters.illm.weights import LEVELS, Matrix, Vector, quantize_columns, quantize_vector
from exporters.ops.algebra import Value
from exporters.ops.residual import RESIDUAL_BITS
from exporters.ops.rotary import rotary_tables

if TYPE_CHECKING:
    from exporters.illm.source import Source

_MAX_RESIDUAL_EXPONENT = 16
_RESIDUAL_MARGIN_BITS = 1
_SCALE_BITS = 22
"""A cached scale as large as the largest seen has 22 of the 26 bits there are."""


@dataclass(frozen=True)
class Bits:
    """Widths: of the layers' weights and of activations. Embedding and output matrix have 8."""

    weights: int = 8
    activations: int = 8

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer's constants as arrays."""

    attention_gain: Vector
    qkv: Matrix
    qkv_bias: Vector | None
    key_exponent: int
    value_exponent: int
    output: Matrix
    ffn_gain: Vector
    gate_up: Matrix
    gate_smoothing: Vector | None
    down: Matrix


Rounder = Callable[[str, Array, int, Array | None], Matrix]
"""``rounder(name, weight, bits, clip)``."""


def to_nearest(_: str, weight: Array, bits: int, clip: Array | None) -> Matrix:
    return quantize_columns(weight, bits, clip)


def quantize_layer(
    layer: Layer,
    peaks: Peaks,
    bits: Bits,
    clipping: Mapping[str, Array] | None = None,
    rounder: Rounder = to_nearest,
) -> QuantizedLayer:
    """``layer`` (smoothed already) in integers.

    Args:
        peaks: of the smoothed layer's keys and values.
        clipping: by matrix, see `quantize_columns`.
        rounder: of the four matrices.
    """
    levels, clip = LEVELS[bits.activations], clipping or {}
    smoothing = layer.gate_smoothing

    def matrix(name: str) -> Matrix:
        return rounder(name, getattr(layer, name), bits.weights, clip.get(name))

    return QuantizedLayer(
        attention_gain=quantize_vector(layer.attention_gain),
        qkv=matrix("qkv"),
        qkv_bias=None if layer.qkv_bias is None else quantize_vector(layer.qkv_bias),
        key_exponent=_scale_exponent(float(np.max(peaks.key)) / levels),
        value_exponent=_scale_exponent(float(np.max(peaks.value)) / levels),
        output=matrix("output"),
        ffn_gain=quantize_vector(layer.ffn_gain),
        gate_up=matrix("gate_up"),
        gate_smoothing=None if smoothing is None else quantize_vector(1.0 / smoothing),
        down=matrix("down"),
    )


def residual_exponent(peak: float) -> int:
    """Of the stream's unit, so that ``peak`` leaves one bit of the thirty free."""
    room = RESIDUAL_BITS - _RESIDUAL_MARGIN_BITS - math.ceil(math.log2(max(peak, 1.0)))
    return min(_MAX_RESIDUAL_EXPONENT, room)


def _scale_exponent(scale: float) -> int:
    return _SCALE_BITS - math.ceil(math.log2(max(scale, 1e-9)))


class Holder(Protocol):
    """A backend that keeps named constants."""

    def weight(self, name: str, array: Any, dtype: str | None = None) -> Value: ...


class Placement:
    """Puts weights into ``holder``.

    Args:
        context: positions that the rotary tables cover.
    """

    def __init__(self, holder: Holder, config: Config, bits: Bits, context: int) -> None:
        self._holder, self._config, self._bits, self._context = holder, config, bits, context

    def model(self, source: Source) -> ModelValues:
        c, holder = self._config, self._holder
        head = self._linear("head", quantize_columns(source.head().T, 8))
        embedding = head
        if not c.tied:
            embedding = self._linear("embedding", quantize_columns(source.embedding().T, 8))
        angles = np.arange(self._context)[:, None] * np.array(c.frequencies)
        cosine, sine = rotary_tables(angles)
        return ModelValues(
            embedding=embedding,
            cosine=holder.weight("rotary.cosine", cosine),
            sine=holder.weight("rotary.sine", sine),
            final_gain=self._gain("head.gain", quantize_vector(source.final_gain())),
            head=head,
        )

    def layer(self, index: int, q: QuantizedLayer) -> LayerValues:
        name, heads = f"layers.{index}.", self._config.kv_heads
        base = np.repeat([q.key_exponent, q.value_exponent], heads).reshape(1, -1, 1, 1)
        bits = self._bits.weights

        def optional(key: str, vector: Vector | None) -> Gain | None:
            return None if vector is None else self._gain(name + key, vector)

        return LayerValues(
            attention_gain=self._gain(name + "attention.gain", q.attention_gain),
            qkv=self._linear(name + "qkv", q.qkv, bits),
            qkv_bias=optional("qkv.bias", q.qkv_bias),
            kv_base=self._holder.weight(name + "kv.base", base),
            key_exponent=q.key_exponent,
            value_exponent=q.value_exponent,
            output=self._linear(name + "output", q.output, bits),
            ffn_gain=self._gain(name + "ffn.gain", q.ffn_gain),
            gate_up=self._linear(name + "gate_up", q.gate_up, bits),
            gate_smoothing=optional("gate.smoothing", q.gate_smoothing),
            down=self._linear(name + "down", q.down, bits),
        )

    def _linear(self, name: str, matrix: Matrix, bits: int = 8) -> Linear:
        """Weights of 4 bits are stored two a byte; ONNX Runtime unpacks them when it loads."""
        kind = "int4" if bits == 4 else "int8"
        weight: Value = self._holder.weight(name + ".weight", matrix.values, kind)
        if bits == 4:
            weight = weight.cast("int8")
        return Linear(weight, self._holder.weight(name + ".scale", matrix.scale), matrix.exponent)

    def _gain(self, name: str, vector: Vector) -> Gain:
        return Gain(self._holder.weight(name, vector.values), vector.exponent)
