"""``--print-python`` and ``--print-recipe``: the same work as the command line, written down.

They stand beside the commands, not in them: `with_printing` adds the two options to a command's
signature, and prints instead of running where one of them is given.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

PRINTED = ("export", "quantize", "cast", "build", "bench", "verify", "run")
"""Commands whose work can be said otherwise."""

_PYTHON = Annotated[
    bool, typer.Option("--print-python", help="Print Python that does the same, and do nothing.")
]
_RECIPE = Annotated[
    bool, typer.Option("--print-recipe", help="Print a recipe that does the same, and do nothing.")
]


def with_printing(name: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """The command ``name`` with the options that print it."""
    signature = inspect.signature(command)
    hints = typing.get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
    added = {"print_python": _PYTHON, "print_recipe": _RECIPE}

    @functools.wraps(command)
    def printing(**values: Any) -> Any:
        asked = [key for key in added if values.pop(key)]
        if not asked:
            return command(**values)
        typer.echo(_written(name, asked[0], _given(signature, values)), nl=False)
        return None

    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(key, keyword, default=False, annotation=hint)
        for key, hint in added.items()
    ]
    together = [p.replace(kind=keyword) for p in own] + more
    printing.__signature__ = signature.replace(parameters=together)  # type: ignore[attr-defined]
    printing.__annotations__ = {p.name: p.annotation for p in together}
    return printing


def _given(signature: inspect.Signature, values: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed and is not the default."""
    defaults = {name: p.default for name, p in signature.parameters.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not None and value != defaults[name]
    }


def _written(name: str, asked: str, given: Mapping[str, Any]) -> str:
    from deploy import equivalents

    writers = equivalents.PYTHON if asked == "print_python" else equivalents.RECIPES
    return writers[name](given)
