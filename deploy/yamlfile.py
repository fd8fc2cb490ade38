"""Reading YAML so that every mistake can be shown with its line.

YAML lets a key occur twice and keeps the last; in a recipe that is a mistake, never an intention.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.strict import Location, place
from exporters.errors import UserError


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The mapping in ``path``, and the line of every key and list item.

    Raises:
        UserError: no such file, not YAML, a key twice, or not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", fix="Check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text: {error}", fix="Name a YAML file") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML: {words}", fix="Correct it at that line") from error
    if node is None or not isinstance(data, dict):
        raise UserError(
            f"{path} holds {'nothing' if node is None else 'no mapping of keys to values'}",
            fix="See docs/recipes.md",
        )
    lines: dict[Location, int] = {}
    for location, line in _lines(node, ()):
        if location in lines:
            raise UserError(
                f"{path}: {place(location)} is given twice, on lines {lines[location]} and {line}",
                fix="Keep one of them",
            )
        lines[location] = line
    return data, lines


def _lines(node: yaml.Node, location: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*location, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = (*location, index)
            yield inner, value.start_mark.line + 1
            yield from _lines(value, inner)
