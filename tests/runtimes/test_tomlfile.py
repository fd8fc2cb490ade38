from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from exporters.errors import UserError
from runtimes.base import Evidence
from runtimes.tomlfile import parse, read_toml


@dataclass(frozen=True)
class Row:
    key: str
    evidence: Evidence
    types: tuple[str, ...] = ()
    limit: int | None = None


def test_a_row_is_parsed() -> None:
    value = {"key": "a", "evidence": "name-checked", "types": ["x", "y"], "limit": 3}
    assert parse(Row, value, "row") == Row("a", Evidence.NAME_CHECKED, ("x", "y"), 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            {"key": "a", "evidence": "built", "tpyes": []},
            "unknown key 'tpyes'. Did you mean 'types'?",
        ),
        ({"key": "a"}, "row lacks the key 'evidence'"),
        ({"key": 1, "evidence": "built"}, "row.key must be str, it is 1"),
        ({"key": "a", "evidence": "guessed"}, "row.evidence is 'guessed'. Known: built, executed"),
        ({"key": "a", "evidence": "built", "types": "x"}, "row.types must be a list"),
        ({"key": "a", "evidence": "built", "types": [1]}, "row.types[0] must be str"),
        ({"key": "a", "evidence": "built", "limit": True}, "row.limit must be int"),
        ([], "row must be a table"),
    ],
)
def test_everything_else_is_an_error_that_names_the_place(value: object, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Row, value, "row")
    assert words in str(error.value)


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    path.write_text("key = ")
    with pytest.raises(UserError, match=r"table\.toml cannot be read"):
        read_toml(path)
