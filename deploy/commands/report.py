"""``edgeport report``: draw a bundle's HTML report again."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from deploy.bundle import MANIFEST
from deploy.console import Output, dump_json
from exporters.files import sha256_file, write_text


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

    One self-contained file: no network, light and dark, printable. Redrawn in its bundle, the
    page gets its new hash in the manifest. For example:

        edgeport report demo-bundle -o report.html --open

    Known limits: at most 15 MB, about 20 samples with six camera images each. The 3-D view needs
    WebGL 2; without it the page says so and shows the bird's-eye view.
    """
    from deploy.report import write_report

    page = write_report(bundle, output, overwrite=overwrite)
    _note_in_manifest(bundle, page)
    size_bytes = page.stat().st_size
    out = Output(json=as_json)
    out.say(f"{page} ({size_bytes / 1e6:.1f} MB)")
    out.result({"path": page, "size_bytes": size_bytes})
    if open_page:
        webbrowser.open(page.resolve().as_uri())


def _note_in_manifest(bundle: Path, page: Path) -> None:
    """Give the page's entry its new hash; every other entry stays, so tampering still shows."""
    path = bundle / MANIFEST
    if not path.is_file():
        return
    manifest = json.loads(path.read_bytes())
    for entry in manifest["outputs"]:
        if (bundle / entry["path"]).resolve() == page.resolve():
            entry.update(sha256=sha256_file(page), size_bytes=page.stat().st_size)
            write_text(path, dump_json(manifest) + "\n", overwrite=True)
