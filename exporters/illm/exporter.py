"""Checkpoint to model file: the steps of an I-LLM export, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from exporters.errors import EdgeportError, UserError
from exporters.files import require_writable
from exporters.illm.describe import describe
from exporters.illm.emission import Emission
from exporters.illm.float_decoder import SINK_TOKENS, Peaks, observe, run_layer
from exporters.illm.float_emission import FloatEmission
from exporters.illm.learned import LearnedFactors, LearnedLayer, load_learned, require_fitting
from exporters.illm.options import ExportOptions
from exporters.illm.placing import (
    QuantizedLayer,
    Rounder,
    quantize_layer,
    residual_exponent,
    to_nearest,
)
from exporters.illm.rotation import BASES, in_basis
from exporters.illm.rounding import Moments, round_against
from exporters.illm.sample_text import BUILT_IN, CalibrationText, calibration_text
from exporters.illm.smoothing import PAIRS, analytic_factors, smooth
from exporters.illm.source import Layer, Source, open_source
from exporters.illm.tokenizer import Tokenizer, attach
from exporters.illm.weights import LEVELS
from exporters.modelfile import save_model
from exporters.ops.norm import MAX_CHANNELS
from exporters.ops.tensorrt_backend import MAX_KEYS, TensorRtBackend
from exporters.trace import require_known_operators
from exporters.variants import ExportResult, Progress

if TYPE_CHECKING:
    import onnx

MAX_CONTEXT = 8192
_TEXT_TOKENS = 256  # of each piece of calibration text
_TEXT_PIECES = 16
_GPTQ_PIECES, _GPTQ_TOKENS = 32, 2048


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write an I-LLM model file; see ``exporters.illm.export``."""
    chosen = ExportOptions.parse(options)
    require_writable(output, overwrite=chosen.overwrite)
    started = time.perf_counter()
    source = open_source(chosen.checkpoint)
    _require_covered(source)
    tokenizer = Tokenizer(source.texts, source.config.begin_token)
    _require_matching(tokenizer, source)
    longest = MAX_KEYS if chosen.runtime == "tensorrt" else MAX_CONTEXT
    context = min(chosen.context or longest, source.config.context)
    learned, text = _learned(chosen, source), BUILT_IN
    if chosen.precision == "float":
        proto = FloatEmission(source.config, context).write(source)
    else:
        heard = _calibration_text(tokenizer, chosen, min(context, _TEXT_TOKENS))
        based, text = in_basis(source, chosen.basis), heard.name
        proto = _integer(based, heard, chosen, context, learned, progress)
    require_known_operators(proto)
    attach(proto, source.texts)
    special = dict(source.texts.special_tokens)
    spec = describe(source, chosen, context=context, special=special, text=text)
    file = save_model(proto, output, spec=spec, overwrite=chosen.overwrite)
    report = {
        "variant": variant,
        "weights": str(spec.weights),
        "parameters": _parameters(source),
        "precision": str(chosen.bits) if chosen.precision == "integer" else "float32",
        "context": context,
        "notes": source.notes,
        "says": _says(chosen, context, text, f"{len(learned.layers)} of {source.config.layers}"),
        "seconds": {"export": time.perf_counter() - started},
    }
    return ExportResult(file, report)


def _integer(
    source: Source,
    heard: CalibrationText,
    options: ExportOptions,
    context: int,
    learned: LearnedFactors,
    progress: Progress | None,
) -> onnx.ModelProto:
    """Two passes over the layers: the stream's range first, since its unit is in every layer."""
    rounders = _rounders(source, options, heard.pieces)
    texts = heard.pieces[:_TEXT_PIECES]
    peak, layers = 0.0, source.config.layers
    seen: list[Peaks] = []
    for index, (_, peaks) in enumerate(observe(source, texts)):
        seen.append(peaks)
        peak = max(peak, peaks.residual)
        if progress is not None:
            progress("observe", index + 1, layers)
    if not np.isfinite(peak):
        raise UserError(
            "the network gives NaN or infinity on the calibration text",
            fix="Check the weights, or give another --text",
        )

    def quantized() -> Iterator[QuantizedLayer]:
        for index, peaks in enumerate(seen):
            mine = learned.layers.get(index)
            layer, after = smoothed(source.layer(index), peaks, options.smoothing, source, mine)
            clipping = mine.clipping if mine else None
            yield quantize_layer(layer, after, options.bits, clipping, rounders(layer))
            if progress is not None:
                progress("quantize", index + 1, layers)

    graph = TensorRtBackend() if options.runtime == "tensorrt" else None
    inline = not options.functions or graph is not None
    emission = Emission(source.config, options.bits, context, inline=inline, graph=graph)
    return emission.write(source, quantized(), residual_exponent(peak))


def _rounders(
    source: Source, options: ExportOptions, texts: list[list[int]]
) -> Callable[[Layer], Rounder]:
    """What rounds each layer's matrices; to be asked with the layers in order, smoothed."""
    if options.rounding == "nearest":
        return lambda _: to_nearest
    streams = [torch.from_numpy(source.embedding()[ids]) for ids in texts]
    levels = LEVELS[options.bits.activations]

    def of(layer: Layer) -> Rounder:
        moments = Moments(levels)
        skip = SINK_TOKENS if len(texts[0]) > 4 * SINK_TOKENS else 0
        with torch.no_grad():
            for i, stream in enumerate(streams):
                streams[i] = run_layer(stream, layer, source.config, moments, skip=skip)
        return lambda name, *given: round_against(moments.by_matrix[name], *given)

    return of


def smoothed(
    layer: Layer,
    peaks: Peaks,
    smoothing: str,
    source: Source,
    learned: LearnedLayer | None = None,
) -> tuple[Layer, Peaks]:
    """The layer with smoothing folded in, and the peaks of keys and values after it."""
    if learned is None:
        pairs = () if smoothing == "none" or source.config.mixed else PAIRS
        factors = analytic_factors(layer, peaks, source.config, pairs)
    else:
        factors = learned.factors
    after = Peaks(key=peaks.key, value=peaks.value)
    if factors.key is not None:
        after.key = peaks.key * factors.key
    if factors.value is not None:
        after.value = peaks.value / factors.value.reshape(peaks.value.shape)
    return smooth(layer, factors, source.config), after


def _learned(options: ExportOptions, source: Source) -> LearnedFactors:
    """What ``--factors`` names; nothing for any layer where it is not given."""
    if options.factors is None:
        return LearnedFactors({}, {})
    learned = load_learned(options.factors)
    for basis in BASES:
        if basis != options.basis and learned.belong_to(in_basis(source, basis)):
            raise UserError(
                f"the factors in {options.factors} were learned for --basis {basis}, the export "
                f"has --basis {options.basis}",
                fix=f"Use --basis {basis}, or learn them again: edgeport smooth",
            )
    require_fitting(learned, in_basis(source, options.basis), options.bits, options.factors)
    return learned


def _calibration_text(tokenizer: Tokenizer, options: ExportOptions, length: int) -> CalibrationText:
    pieces, least = _TEXT_PIECES, 0
    if options.rounding == "gptq":
        pieces, least = _GPTQ_PIECES, _GPTQ_TOKENS
    return calibration_text(options.text, tokenizer, length=length, pieces=pieces, least=least)


def _require_covered(source: Source) -> None:
    c = source.config
    if c.hidden > MAX_CHANNELS:
        raise UserError(
            f"rows of {c.hidden} channels: their squares do not sum exactly",
            fix=f"Networks with up to {MAX_CHANNELS} channels are covered",
        )
    if c.attention_width % c.head_dim or c.kv_width < 1:
        raise EdgeportError(f"heads of {c.head_dim} do not fill {c.attention_width}")


def _require_matching(tokenizer: Tokenizer, source: Source) -> None:
    if tokenizer.size > source.config.vocabulary:
        raise UserError(
            f"the tokenizer has {tokenizer.size} tokens, the network {source.config.vocabulary}",
            fix="Use the tokenizer that belongs to this checkpoint",
        )


def _says(options: ExportOptions, context: int, text: str, learned: str) -> tuple[str, ...]:
    if options.precision == "float":
        return (f"float32, the reference of comparisons; context {context}",)
    how = [f"{options.basis} basis"]
    if options.factors is not None:
        how.append(f"learned smoothing in {learned} layers ({options.factors.name})")
    elif options.smoothing != "none":
        how.append(f"{options.smoothing} smoothing")
    how.append("rounded by GPTQ" if options.rounding == "gptq" else "rounded to nearest")
    kind = "integers for TensorRT" if options.runtime == "tensorrt" else "integer-only"
    return (f"{kind} {options.bits}, {', '.join(how)}; {text}; context {context}",)


def _parameters(source: Source) -> int:
    c = source.config
    layer = c.hidden * (2 * c.attention_width + 2 * c.kv_width + 3 * c.ffn + 2)
    return c.layers * layer + c.hidden * (1 + c.vocabulary * (1 if c.tied else 2))
