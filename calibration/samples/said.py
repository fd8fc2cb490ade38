"""What a user says of an input: words, numbers, and what is missing, with its remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporters.errors import UserError, did_you_mean

SEE = "See docs/calibration-sets.md"


def choice(
    name: str, said: Mapping[str, Any], key: str, words: Sequence[str], usual: str | None = None
) -> str:
    value = said.get(key, usual)
    if value is None:
        raise UserError(
            f"input {name!r}: nobody says its {key}", fix=f"Give --{key} {'|'.join(words)}"
        )
    if value not in words:
        raise UserError(
            f"input {name!r}: unknown {key} {value!r}", fix=did_you_mean(str(value), words)
        )
    return str(value)


def listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",")
    return list(value) if isinstance(value, (list, tuple)) else [value]


def number(name: str, key: str, value: Any) -> float:
    """A number, or a fraction as ``1/255``."""
    try:
        above, separator, below = str(value).partition("/")
        return float(above) / float(below) if separator else float(above)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"input {name!r}: {key} {value!r} is no number", fix="Write 0.5, or 1/255"
        ) from error
