"""What is wrong with a file that a strict pydantic model refused, in words that name the place.

    quantization.scale (line 9) is unknown (did you mean 'scales'?)
    benchmark.runs (line 14) is 'many'; input should be a valid integer

pydantic's own text speaks of models and types; a user of a recipe knows keys and lines.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from exporters.errors import did_you_mean

Location = tuple[int | str, ...]
"""Keys and list indices from the top, ``("engines", 0, "target")``."""

_PROBLEMS_SHOWN = 5


class StrictPart(BaseModel):
    """A part of a file that a person writes: no unknown keys, no types turned into others."""

    # "model_" is pydantic's own prefix; such a part has no methods that it could hide
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def explain(
    error: ValidationError, model: type[BaseModel], lines: Mapping[Location, int] | None = None
) -> str:
    """One line that lists the first problems of ``error``.

    Args:
        error: raised by ``model``.
        model: the top model, whose known keys a wrong key is compared with.
        lines: line numbers by location, where the text's form has lines.
    """
    problems = [_problem(detail, model, lines or {}) for detail in error.errors()]
    shown = "; ".join(problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def place(location: Location) -> str:
    """``engines[0].target`` for ``("engines", 0, "target")``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".") or "the file"


def _problem(detail: ErrorDetails, model: type[BaseModel], lines: Mapping[Location, int]) -> str:
    location = detail["loc"]
    line = lines.get(location)
    where = place(location) + (f" (line {line})" if line is not None else "")
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(str(location[-1]), _known_keys(model, location[:-1]))
        return f"{where} is unknown ({hint[0].lower()}{hint[1:]})"
    if detail["type"] == "missing":
        return f"{where} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where} is {detail['input']!r}; {message[0].lower()}{message[1:]}"


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that ``model`` knows at ``location``."""
    for step in location:
        if isinstance(step, str):
            model = _model_of(model, step) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model that the values of ``model``'s ``key`` have, through lists and optionals."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    pending = [fields[key].annotation] if key in fields else []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending.extend(getattr(annotation, "__args__", ()))
    return None
