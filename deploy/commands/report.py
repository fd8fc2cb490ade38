"""``edgeport report``: draw a bundle's HTML report again."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder that `edgeport run` wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="HTML file to write; else BUNDLE/report.html."),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in your browser.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the HTML file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw the HTML report of a bundle from its report.json.

    One self-contained file: no network, light and dark, printable. Example:

        edgeport report out/demo -o report.html --open

    Known limits: at most 15 MB, about 30 samples with six camera images each. The 3-D view needs
    WebGL 2; without it the page says so and shows the bird's-eye view.
    """
    from deploy.report import write_report

    page = write_report(bundle, output, overwrite=overwrite)
    size_bytes = page.stat().st_size
    if as_json:
        typer.echo(json.dumps({"path": str(page), "size_bytes": size_bytes}))
    else:
        typer.echo(f"{page} ({size_bytes / 1e6:.1f} MB)")
    if open_page:
        webbrowser.open(page.resolve().as_uri())
