"""The integer decoder as an ONNX graph: weights, cache inputs and outputs, functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from exporters.illm.blocks import attention_block, feed_forward_block
from exporters.illm.config import Config
from exporters.illm.decoder import Cache, Setting, decode
from exporters.illm.placing import Bits, Placement, QuantizedLayer
from exporters.illm.weights import row_rounding
from exporters.ops.onnx_backend import GraphBackend, Shape
from exporters.ops.tensorrt_backend import TensorRtBackend

if TYPE_CHECKING:
    import onnx

    from exporters.illm.source import Source


class Emission:
    """Writes the graph; layers are put in one by one, so that no two need be in memory as floats.

    Args:
        context: positions that the rotary tables cover.
        inline: write the operators' bodies in place of function calls.
        graph: writes the operators; one for ONNX Runtime if None.
    """

    def __init__(
        self,
        config: Config,
        bits: Bits,
        context: int,
        *,
        inline: bool = False,
        graph: GraphBackend | None = None,
    ) -> None:
        self._config, self._bits, self._inline = config, bits, inline
        self._graph = GraphBackend(inline=inline) if graph is None else graph
        self._place = Placement(self._graph, config, bits, context)

    def write(
        self, source: Source, layers: Iterator[QuantizedLayer], residual: int
    ) -> onnx.ModelProto:
        """The model: reads each of ``layers`` when its turn comes."""
        c, graph = self._config, self._graph
        ids = graph.input("input_ids", "int64", [1, "tokens"])
        # a value that decides sizes is nothing to build an engine for
        last_only = isinstance(graph, TensorRtBackend)
        keep = graph.constant([1]) if last_only else graph.input("logits_to_keep", "int64", [1])
        past = [self._cache_input(index) for index in range(c.layers)]
        outcome = decode(
            ids,
            keep,
            past,
            self._place.model(source),
            lambda index: self._place.layer(index, next(layers)),
            Setting(c, row_rounding(self._bits.activations, mixed=c.mixed), residual),
            graph.scope,
            attend=None if self._inline else attention_block,
            feed=None if self._inline else feed_forward_block,
        )
        kept: Shape = [1, "kept", c.vocabulary]
        graph.output(outcome.next_token, "next_token", "int64", kept[:2])
        graph.output(outcome.logits, "logits", "int64", kept)
        graph.output(outcome.mantissa, "logits_mantissa", "int64", [1, "kept", 1])
        graph.output(outcome.exponent, "logits_exponent", "int64", [1, "kept", 1])
        for index, cache in enumerate(outcome.present):
            lead: tuple[int | str, ...] = (1, 2 * c.kv_heads, "total")
            graph.output(cache.kv, f"present.{index}.kv", "int8", [*lead, c.head_dim])
            graph.output(cache.scale, f"present.{index}.scale", "int32", [*lead, 1])
        return graph.model("illm")

    def _cache_input(self, index: int) -> Cache:
        c = self._config
        lead: tuple[int | str, ...] = (1, 2 * c.kv_heads, "past")
        return Cache(
            self._graph.input(f"past.{index}.kv", "int8", [*lead, c.head_dim]),
            self._graph.input(f"past.{index}.scale", "int32", [*lead, 1]),
        )
