"""``edgeport schema``: what an editor needs to complete a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output, dump_json
from exporters.files import write_text


def command(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; else it is printed.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the schema, with -o too.")] = False,
) -> None:
    """Write the JSON Schema of recipes, with which an editor completes them.

    For example:

        edgeport schema -o recipe.schema.json

    With this first line an editor that has a YAML language server completes and checks a recipe:

        # yaml-language-server: $schema=recipe.schema.json

    Known limits: names in the rest of a recipe, such as targets, are checked by edgeport run.
    """
    from deploy.recipe_schema import recipe_schema

    schema = recipe_schema()
    if output is not None:
        write_text(output, dump_json(schema) + "\n", overwrite=overwrite)
        Output(json=as_json).say(str(output))
    Output(json=as_json or output is None).result(schema)
