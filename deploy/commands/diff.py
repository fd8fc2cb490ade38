"""``edgeport diff``: what changed from one bundle to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from exporters.files import write_text


def command(
    before: Annotated[Path, typer.Argument(help="Bundle.")],
    after: Annotated[Path, typer.Argument(help="Bundle.")],
    markdown: Annotated[
        Path | None, typer.Option(help="Write a Markdown comment for a pull request there.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare two bundles: verdict, graph, precision, metrics, latency, energy, size.

    For example:

        edgeport diff old-bundle new-bundle --markdown comment.md

    Metrics and speed-ups are "better" or "worse" only where their intervals lie apart.

    Known limits: latencies of two runs are compared as ratios to each run's own reference, since
    the runs were not interleaved.
    """
    from deploy.bundle import Bundle
    from deploy.provenance.differences import COLUMNS, differences_of, to_markdown

    out = Output(json=as_json)
    found = differences_of(Bundle.open(before), Bundle.open(after))
    title = f"{before.name} to {after.name}"
    if markdown is not None:
        write_text(markdown, to_markdown(found, title), overwrite=overwrite)
    if found:
        out.table(title, list(COLUMNS), [one.row for one in found])
    else:
        out.say("nothing differs")
    out.result({"schema": "edgeport.diff/1", "differences": found})
