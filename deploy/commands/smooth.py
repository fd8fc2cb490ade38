"""``edgeport smooth``: learned smoothing factors of a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.console import Output

if TYPE_CHECKING:
    from calibration.fsbr.reconstruction import BlockLoss


def command(
    checkpoint: Annotated[Path, typer.Argument(help="Hugging Face directory, or FILE.gguf.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text to learn from.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File of factors to write, or to go on with.")
    ],
    bits: Annotated[
        str, typer.Option(metavar="W4A4", help="W8A8, W6A6, W4A8 or W4A4: weights, activations.")
    ] = "W4A4",
    basis: Annotated[
        str, typer.Option(metavar="rotated|own", help="Of channels, as the export's --basis.")
    ] = "rotated",
    rounding: Annotated[
        str, typer.Option(metavar="gptq|nearest", help="Of weights, as the export's --rounding.")
    ] = "gptq",
    layers: Annotated[
        int | None, typer.Option(help="Stop after so many; the same command with more goes on.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the text, for every layer.")] = 10,
    pieces: Annotated[int, typer.Option(help="Of text, at most; each is a step.")] = 32,
    tokens: Annotated[int, typer.Option(help="Of each piece.")] = 256,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PAIR",
            help="A pair that is not smoothed: attention, value, key, ffn, down or gate; "
            "may be repeated.",
        ),
    ] = None,
    clipping: Annotated[
        bool,
        typer.Option("--clipping/--no-clipping", help="Learn where scales end; not with gptq."),
    ] = True,
    swiglu_bits: Annotated[
        int | None, typer.Option(help="Of gate and up inside the activation; 18 as exported.")
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="relative|mse", help="Squared error by token, or as it is.")
    ] = "relative",
    augment: Annotated[
        bool, typer.Option("--augment", help="Add the error against the float block alone.")
    ] = False,
    rate: Annotated[float, typer.Option(help="Learning rate of factors.")] = 5e-3,
    clip_rate: Annotated[float, typer.Option(help="Learning rate of clipping.")] = 1e-2,
    seed: Annotated[int, typer.Option(help="Of the order of the pieces.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the log as JSON.")] = False,
) -> None:
    """Learn smoothing and clipping for few bits, block by block (FSBR of I-LLM).

    For example:

        edgeport smooth DIR --bits W4A4 --text prose.txt -o factors.safetensors

        edgeport export illm --checkpoint DIR --bits W4A4 --factors factors.safetensors -o llm.onnx

    The file grows by a block at a time. After Ctrl-C the same command goes on where it ends, and
    the result is the same. Losses are of text that took no part in learning.

    Known limits: runs on the CPU, one layer in memory. Factors serve the bits and the basis that
    they were learned for.
    """
    from calibration import FsbrPlan, learn_factors

    plan = FsbrPlan(
        without=tuple(without or ()),
        rounding=rounding,
        clipping=clipping,
        swiglu_bits=swiglu_bits,
        objective=objective,
        augment=augment,
        epochs=epochs,
        pieces=pieces,
        tokens=tokens,
        rate=rate,
        clip_rate=clip_rate,
        seed=seed,
    )
    out = Output(json=as_json)
    with out.progress("Smooth") as progress:
        learned = learn_factors(
            checkpoint,
            text,
            output,
            bits=bits,
            basis=basis,
            plan=plan,
            layers=layers,
            overwrite=overwrite,
            progress=progress,
            tell=lambda entry: out.note(_said(entry)),
        )
    columns = ["layer", "nearest", "start", "learned", "epoch", "seconds"]
    rows = [[entry[column] for column in columns] for entry in learned.log["layers"]]
    out.table("Loss", columns, rows)
    out.say(f"{output}: {len(learned.layers)} layers for {learned.log['bits']}")
    out.say("next: edgeport export illm --factors, with the same checkpoint, basis and bits")
    out.result({"path": str(output), **learned.log})


def _said(entry: BlockLoss) -> str:
    """One line a block."""
    kept = f"epoch {entry.epoch}" if entry.kept else "not better, the start stays"
    return (
        f"layer {entry.layer}: loss {entry.nearest:.4g} to nearest, "
        f"{entry.start:.4g} to begin with, {entry.learned:.4g} learned ({kept})"
    )
