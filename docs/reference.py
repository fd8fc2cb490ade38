"""Writes docs/reference.md from the code: commands with their options, and the public Python.

    python docs/reference.py

A test compares the page with what this would write.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from deploy.cli import COMMANDS, make_app

PAGE = Path(__file__).with_name("reference.md")
PACKAGES = ("exporters", "calibration", "runtimes", "deploy")

_HEAD = """# Reference

Written by `python docs/reference.py` from the code. Every command takes `--json` where it has a
result and `--help`; exit codes are 0 ok, 1 verdict fail, 2 your arguments, files or data, 3
environment, 4 our bug, 130 interrupted. Keys of a recipe: [recipes](recipes.md) and their
[schema](recipe.schema.json).
"""


def reference() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(make_app())
    parts = [_HEAD, "## Commands\n"]
    parts += [f"{_command(name, group.commands[name])}\n" for name in COMMANDS]
    parts.append("## Python\n")
    parts += [f"{_package(name)}\n" for name in PACKAGES]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    text = inspect.cleandoc(command.callback.__doc__ or "")
    lines = [f"### edgeport {name}", "", *_paragraphs(text), ""]
    lines += ["| parameter | default | |", "|---|---|---|"]
    for parameter in command.params:
        lines.append(_line(parameter))
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """The docstring as it is: its examples are indented already."""
    yield from (line.rstrip() for line in text.splitlines())


def _line(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [str(parameter.name).upper()]
    default = parameter.default
    plain = default is None or default is False or callable(default) or default == ()
    shown = "required" if parameter.required else "" if plain else f"`{default}`"
    help_text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| {', '.join(f'`{name}`' for name in names)} | {shown} | {help_text} |"


def _package(name: str) -> str:
    package = importlib.import_module(name)
    lines = [f"### {name}", "", "| | |", "|---|---|"]
    for public in sorted(package.__all__, key=str.lower):
        thing = getattr(package, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            first = (inspect.getdoc(thing) or "").partition("\n\n")[0]
            told = " ".join(first.split()).replace("|", "\\|")
            lines.append(f"| `{public}` | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference())
