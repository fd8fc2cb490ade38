"""What the user wants of a board's builder, as the JSON that ``onboard.wishes`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runtimes.feeding import inputs_of_file
from runtimes.shapes import ShapeRange, require_profile


def wishes(
    files: Iterable[Path], shapes: Sequence[ShapeRange] = (), **others: Any
) -> dict[str, Any]:
    """Shapes and whatever of ``others`` was asked for; empty for a build as it comes.

    Raises:
        UserError: the shapes are not those of ``files``, which the board would find out late.
    """
    found = {name: value for name, value in others.items() if value not in (None, False)}
    if shapes:
        for file in files:
            require_profile(inputs_of_file(file), shapes)
        found["shapes"] = {shape.name: shape.to_json() for shape in shapes}
    return found
