"""``edgeport generate``: text from a language model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from deploy.language.generating import Generation, generate
from deploy.language.sampling import Sampling
from deploy.language.stepping import LanguageModel
from exporters.errors import UserError


def command(
    file: Annotated[Path, typer.Argument(help="A language model file (.onnx).")],
    prompt: Annotated[
        str | None, typer.Option(help="Text to continue, or with --chat to answer.")
    ] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="The same from a UTF-8 file.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Stop after so many tokens.")] = 128,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")
    ] = False,
    system: Annotated[
        str | None, typer.Option(help="First message of the conversation, with --chat.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest token; else tokens are drawn.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among so many; 0 for all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Draw among the fewest that hold this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU session; all cores without it.")
    ] = None,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels/--no-kernels",
            help="Compile kernels for this CPU, once, and compute the same bits sooner.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Continue a text, or answer it, with a language model; the text is printed as it comes.

    For example:

        edgeport generate m.onnx --prompt "The capital of France is"

        edgeport generate m.onnx --chat --prompt "What is a sextant?" --temperature 0.7

    Tokenizer, chat template and stop tokens come from the file. The same prompt and seed give the
    same text; with an integer-only file they do so on every machine.

    Integer-only files decode several times faster with --kernels, which needs g++ and ONNX
    Runtime's C++ headers.

    Known limits: one text at a time. It ends at the file's context, which --context of export sets.
    """
    out = Output(json=as_json)
    text = _prompt(prompt, prompt_file)
    sampling = Sampling(temperature, top_k, top_p)
    with LanguageModel.open(file, threads=threads, kernels=kernels) as model:
        show = None if as_json else _show
        result = generate(
            model,
            text,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed,
            chat=chat,
            system=system,
            show=show,
        )
    _say(out, result)
    out.result(_json(result))


def _prompt(prompt: str | None, file: Path | None) -> str:
    from deploy.language.perplexity import read_text

    if (prompt is None) == (file is None):
        raise UserError("give one prompt", fix="Use --prompt TEXT or --prompt-file FILE")
    text = read_text(file) if file is not None else str(prompt)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the prompt is not UTF-8 (character {error.start})",
            fix="Check the terminal's encoding, or use --prompt-file",
        ) from error
    return text


def _show(piece: str) -> None:
    typer.echo(piece, nl=False)


def _say(out: Output, result: Generation) -> None:
    out.say("")
    speed = f", {result.decode_tokens_per_s:.1f} tokens/s" if result.decode_tokens_per_s else ""
    if not out.json:
        out.note(
            f"{result.prompt_tokens} + {len(result.tokens)} tokens ({result.ending}), first after "
            f"{result.prefill_s:.2f} s{speed}"
        )


def _json(result: Generation) -> dict[str, object]:
    return {
        "text": result.text,
        "tokens": list(result.tokens),
        "prompt_tokens": result.prompt_tokens,
        "ending": result.ending,
        "prefill_s": result.prefill_s,
        "decode_s": result.decode_s,
        "decode_tokens_per_s": result.decode_tokens_per_s,
    }
