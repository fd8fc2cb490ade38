"""``edgeport rebuild``: a bundle made again from its own recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from exporters.errors import UserError


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder that `edgeport run` wrote.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte; keeps nothing without -o.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run the whole recipe into this bundle.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a bundle's model files again and compare them byte for byte.

    For example:

        edgeport rebuild demo-bundle --verify

        edgeport rebuild demo-bundle -o again

    Exit code 0 when all model files are the same, 1 when one differs; what changed since, inputs
    or versions, is listed as the likely reason.

    Known limits: inputs are looked for where they were. Engines are not compared: a builder
    chooses kernels by timing them.
    """
    from deploy.bundle import Bundle
    from deploy.pipeline import run
    from deploy.provenance.remaking import rebuild_and_compare, recipe_of, to_json

    if not verify and output is None:
        raise UserError("there is nothing to do", fix="Give --verify, or -o for a new bundle")
    out = Output(json=as_json)
    made = Bundle.open(bundle)
    if output is not None:
        with out.progress("Rebuild") as progress:
            out.say(str(run(recipe_of(made), output, progress=progress).path))
        if not verify:
            out.result({"schema": "edgeport.rebuild/1", "path": output})
            return
    with out.progress("Rebuild") as progress:
        rebuild = rebuild_and_compare(made, progress)
    rows = [[f.path, f.outcome, f.was[:12], f.now and f.now[:12]] for f in rebuild.files]
    out.table(str(bundle), ["file", "", "SHA-256 was", "is"], rows)
    for change in rebuild.changes:
        out.say(f"changed since: {change}")
    out.say("every model file is the same" if rebuild.is_the_same else "not the same")
    out.result(to_json(rebuild))
    raise typer.Exit(rebuild.exit_code)
