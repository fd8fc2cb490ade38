"""The options of an I-LLM export: from Python, from the command line and from recipes alike."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import UserError, did_you_mean
from exporters.illm.placing import Bits
from exporters.illm.rotation import BASES
from exporters.illm.weights import LEVELS
from exporters.ops.tensorrt_backend import MAX_KEYS

PRECISIONS = ("integer", "float")
SMOOTHINGS = ("analytic", "none")
ROUNDINGS = ("nearest", "gptq")
RUNTIMES = ("onnxruntime", "tensorrt")


@dataclass(frozen=True)
class ExportOptions:
    """What can be chosen.

    Attributes:
        checkpoint: a Hugging Face directory or a .gguf file.
        precision: ``integer``, or ``float`` for the reference model in float32.
        bits: of weights and activations, ``W8A8``, ``W6A6``, ``W4A8``, ``W4A4``; any of 8, 6, 4.
        smoothing: ``analytic`` or ``none``; ``learned`` where there are ``factors``. Not given, it
            is analytic in the checkpoint's own basis and none in the rotated one, where channels
            are alike.
        factors: what ``edgeport smooth`` learned for this checkpoint, basis and bits; layers that
            it does not hold are smoothed as without.
        basis: ``rotated``: no channel stands out, see `exporters.illm.rotation`; or ``own``.
        rounding: of weights: ``gptq`` or ``nearest``.
        text: UTF-8 text that statistics come from; None for a short English one, which also
            follows a text that is too short for GPTQ, see `exporters.illm.sample_text`.
        context: positions that the file is made for; None for what the network was trained for,
            at most 8192.
        functions: keep the operators as functions; False writes their bodies out, for runtimes
            that know no functions.
        runtime: whose operators to use. For ``tensorrt`` (no functions, up to 512 positions,
            logits of the last token) products are float-typed and exact, see
            `exporters.ops.tensorrt_backend`.
    """

    checkpoint: Path
    precision: str = "integer"
    bits: Bits = field(default_factory=Bits)
    smoothing: str = "none"
    factors: Path | None = None
    basis: str = "rotated"
    rounding: str = "gptq"
    text: Path | None = None
    context: int | None = None
    functions: bool = True
    runtime: str = "onnxruntime"
    overwrite: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ExportOptions:
        """Options from texts or values.

        Raises:
            UserError: unknown name or value, or no checkpoint.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in options.items() if value is not None}
        for name in values:
            if name not in known:
                raise UserError(f"unknown export option {name!r}", fix=did_you_mean(name, known))
        if "checkpoint" not in values:
            raise UserError(
                "illm needs a checkpoint: a language model with random weights says nothing",
                fix="Give --checkpoint DIR (Hugging Face) or --checkpoint FILE.gguf",
            )
        for name in ("checkpoint", "text", "factors"):
            if name in values:
                values[name] = Path(values[name])
        if "bits" in values:
            values["bits"] = parse_bits(values["bits"])
        natural = "analytic" if values.get("basis") == "own" else "none"
        result = cls(**{"smoothing": natural, **values})
        _require("precision", result.precision, PRECISIONS)
        _require("smoothing", result.smoothing, SMOOTHINGS)
        _require("basis", result.basis, BASES)
        _require("rounding", result.rounding, ROUNDINGS)
        _require("runtime", result.runtime, RUNTIMES)
        if result.basis == "rotated" and result.smoothing == "analytic":
            raise UserError(
                "--smoothing analytic is for the checkpoint's own basis: peaks of single channels, "
                "which the rotated one has not",
                fix="Leave out --smoothing, or give --basis own",
            )
        _require_exact(result)
        if result.context is not None and result.context < 1:
            raise UserError(f"--context is {result.context}", fix="Give a number of tokens")
        if result.factors is None:
            return result
        if result.precision == "float" or "smoothing" in values:
            other = "--precision float" if result.precision == "float" else "--smoothing"
            raise UserError(f"--factors and {other} exclude each other", fix=f"Leave out {other}")
        return dataclasses.replace(result, smoothing="learned")


def parse_bits(value: Any) -> Bits:
    """``W4A8``, or the parsed thing."""
    if isinstance(value, Bits):
        return value
    digits = "".join(str(bits) for bits in LEVELS)
    found = re.fullmatch(rf"[Ww]([{digits}])[Aa]([{digits}])", str(value))
    if found is None:
        raise UserError(
            f"--bits is {value!r}", fix="Write W8A8, W6A6, W4A8 or W4A4: weights, activations"
        )
    return Bits(int(found[1]), int(found[2]))


def _require_exact(options: ExportOptions) -> None:
    """TensorRT's float-typed products are exact for so many keys only."""
    if options.runtime != "tensorrt":
        return
    if options.precision == "float":
        raise UserError(
            "--runtime tensorrt is for integers; a float file serves every runtime",
            fix="Leave out --runtime",
        )
    if options.context is not None and options.context > MAX_KEYS:
        raise UserError(
            f"--context is {options.context}; products of more than {MAX_KEYS} keys are not exact "
            "in float32, which TensorRT multiplies integers in",
            fix=f"Give --context {MAX_KEYS} or less",
        )


def _require(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise UserError(f"--{name} is {value!r}", fix=did_you_mean(str(value), known))
