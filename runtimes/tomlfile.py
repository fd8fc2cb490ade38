"""Strict TOML: data files of this package become frozen dataclasses, and nothing is ignored.

An unknown key is an error with the nearest known one; a missing key and a wrong type are errors
that name file, row and key. Tables that only ship with us still deserve it: the schema is the
test, and a typo in a support matrix would otherwise silently allow what it meant to forbid.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from exporters.errors import UserError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read: {error}", fix="Repair the file") from error


def parse(kind: type[T], value: object, where: str) -> T:
    """Turn a TOML value into ``kind``: a dataclass, a scalar, an enum, or tuples and dicts of them.

    Raises:
        UserError: unknown or missing key, or wrong type; ``where`` and the key are named.
    """
    if is_dataclass(kind):
        return _dataclass(kind, value, where)  # type: ignore[return-value]
    return _value(kind, value, where)  # type: ignore[no-any-return]


def _dataclass(kind: type[Any], value: object, where: str) -> object:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be a table, it is {value!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for key in value:
        if key not in known:
            raise UserError(f"{where} has an unknown key {key!r}", fix=did_you_mean(key, known))
    for name, spec in known.items():
        if name not in value and spec.default is MISSING and spec.default_factory is MISSING:
            raise UserError(f"{where} lacks the key {name!r}")
    return kind(**{k: _value(hints[k], v, f"{where}.{k}") for k, v in value.items()})


def _value(kind: Any, value: object, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _value(next(a for a in args if a is not type(None)), value, where)
    if is_dataclass(kind):
        return _dataclass(typing.cast("type[Any]", kind), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} must be a list, it is {value!r}")
        return tuple(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind, value, where)
    if type(value) is not kind:
        raise UserError(f"{where} must be {kind.__name__}, it is {value!r}")
    return value


def _enum(kind: type[Enum], value: object, where: str) -> Enum:
    words = [str(member.value) for member in kind]
    if value not in words:
        raise UserError(f"{where} is {value!r}", fix=did_you_mean(str(value), words))
    return kind(value)
