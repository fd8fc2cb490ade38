"""I-LLM (arXiv:2405.17849): LLaMA-family decoders in integers, from token ids to logits.

`export` reads a Hugging Face directory or a GGUF file and writes one ONNX for prompts and single
tokens, its key-value cache declared as state, without any floating-point tensor.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError, UserError
from exporters.variants import ExportResult, Progress, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporters.modelfile import ModelSpec

__all__ = ["VARIANTS", "export", "prepare", "rig_mismatch"]

VARIANTS = (
    Variant(
        name="illm",
        family="illm",
        task="language",
        summary="integer-only decoder from LLaMA, SmolLM, TinyLlama or Qwen2 weights, W8A8 to W4A4",
        published={
            "perplexity_llama7b_fp16": 5.68,
            "perplexity_llama7b_w8a8": 5.69,
            "source": "I-LLM, WikiText-2 (arXiv:2405.17849)",
        },
    ),
)


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a language model file.

    Args:
        variant: ``illm``.
        output: the file to write; beyond 2 GiB weights lie beside it.
        progress: called as ``progress(step, done, total)``.
        options: fields of ``exporters.illm.options.ExportOptions``: ``checkpoint``, ``precision``,
            ``bits``, ``smoothing``, ``factors``, ``basis``, ``rounding``, ``text``,
            ``context``, ``functions``, ``runtime``, ``overwrite``.

    Returns:
        The model file and a report: ``parameters``, ``precision``, ``context``, ``notes`` (how the
        weights were stored) and ``seconds``.

    Raises:
        UserError: bad option, checkpoint, tokenizer or output.
        MissingRequirementError: torch, or what reads the checkpoint, is not installed.
    """
    if find_spec("torch") is None:
        raise MissingRequirementError(
            "torch is not installed; exporting needs it", fix="pip install 'edgeport[export,llm]'"
        )
    from exporters.illm import exporter

    return exporter.export(variant, output, progress=progress, **options)


def prepare(frame: Any, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """A language model takes text, never a camera frame.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"{spec.variant} is a language model, {type(frame).__name__} is no text",
        fix="Use: edgeport generate FILE --prompt TEXT",
    )


def rig_mismatch(rig: Any, spec: ModelSpec) -> float:
    """No rig is baked into a language model."""
    del rig, spec
    return 0.0
