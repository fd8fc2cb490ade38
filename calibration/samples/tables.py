"""Tables of nuScenes: JSON lists of objects, read one object at a time.

``sample_data.json`` of ``v1.0-trainval`` has 2.6 million rows in 1.2 GB; only its key frames are
wanted here, and only they stay in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from exporters.errors import UserError

Row = dict[str, Any]
T = TypeVar("T")

_CHUNK = 1 << 20


class Index(dict[str, T]):
    """Token to what a table says of it; a token that the table lacks is an error that names it."""

    def __init__(self, path: Path, items: Iterable[tuple[str, T]]) -> None:
        super().__init__(items)
        self._path = path

    def __missing__(self, token: str) -> T:
        raise UserError(
            f"{self._path} has no row {token!r}, which another table names",
            fix="The tables do not belong together: extract the data set again",
        )


def rows(path: Path, *columns: str) -> Iterator[Row]:
    """The objects of a JSON file that holds a list of them, with ``columns`` alone.

    Raises:
        UserError: missing, truncated, no list of objects, or one without these columns.
    """
    try:
        for row in _rows(path):
            yield {column: row[column] for column in columns}
    except KeyError as error:
        raise UserError(
            f"{path} has a row without {error}", fix="Extract the data set again"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is truncated or no table of nuScenes: {error}", fix="Copy it again"
        ) from error


def _rows(path: Path) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as stream:
        text = stream.read(_CHUNK).lstrip()
        if not text.startswith("["):
            raise ValueError("it does not start with [")
        place = 1
        while True:
            place = _after(text, place, " \t\r\n,")
            if text.startswith("]", place):
                return
            try:
                row, place = decoder.raw_decode(text, place)
            except ValueError:
                more = stream.read(_CHUNK)
                if not more:
                    raise
                text, place = text[place:] + more, 0
                continue
            if not isinstance(row, dict):
                raise TypeError("a row is no object")
            yield row


def _after(text: str, place: int, skipped: str) -> int:
    while place < len(text) and text[place] in skipped:
        place += 1
    return place
