"""Runs commands as a user does, and holds what they say to the page that promises it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cli import run
from tests.deploy.conftest import mini

__all__ = ["Answer", "mini"]

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"
Answer = Callable[..., str]
"""``answer(thread, code, *arguments)``: what the command said, on one line."""


def section(thread: str) -> str:
    """The row of the page that answers a thread, without its markup."""
    rows = [row for row in PAGE.read_text().splitlines() if f"[{thread}]" in row]
    assert len(rows) == 1, f"{PAGE.name} has {len(rows)} rows about {thread}"
    return rows[0].replace("`", "")


class Asked:
    """A command's answer; ``in`` looks for words in it and in the page's row alike."""

    def __init__(self, thread: str, said: str) -> None:
        self.said = said
        self._row = section(thread)

    def __contains__(self, words: object) -> bool:
        text = str(words)
        assert text in self._row, f"the page does not say {text!r}"
        return text in self.said


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Asked]:
    def asked(thread: str, code: int, *arguments: str | Path) -> Asked:
        capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        said = re.sub(r"\s+", " ", captured.out + captured.err)
        assert found == code, said
        assert "Traceback" not in said
        return Asked(thread, said)

    return asked
