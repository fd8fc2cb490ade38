"""What was measured already, on disk: a search that was interrupted goes on where it stopped.

Every measurement has a name and is written down when it is done, atomically. The file belongs to
one question, the hash of model, samples and options; a search with another budget asks the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exporters.errors import UserError
from exporters.files import sha256_bytes, write_text
from exporters.modelfile import canonical_json

SCHEMA = "edgeport.search/2"
"""Counted up when a measurement means something else: since 2, noise is of what decides outputs."""


class Notebook:
    """Measurements by name; a JSON value each.

    Args:
        path: where they are kept; None for this process only.
        question: everything that they depend on, as JSON.

    Raises:
        UserError: the file is of another question, or something else.
    """

    def __init__(self, path: Path | None, question: Mapping[str, Any]) -> None:
        self.path = path
        self._question = json.loads(canonical_json(question))
        self._found: dict[str, Any] = {}
        if path is not None and path.exists():
            self._found = self._read(path)

    def recall(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement called ``name``; taken now if it is not there."""
        if name not in self._found:
            self.note(name, measure())
        return self._found[name]

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def note(self, name: str, value: Any) -> None:
        self._found[name] = value
        if self.path is not None:
            content = {"schema": SCHEMA, "question": self._question, "measured": self._found}
            write_text(self.path, json.dumps(content, indent=1) + "\n", overwrite=True)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text())
            question, found = content["question"], content["measured"]
            readable = isinstance(found, dict) and "/" in content["schema"]
        except (OSError, ValueError, KeyError, TypeError):
            readable = False
        if not readable:
            raise UserError(f"{path} holds no state of a search", fix="Name another --state")
        if content["schema"] != SCHEMA:
            raise UserError(
                f"{path} was measured by another version of edgeport ({content['schema']}, "
                f"not {SCHEMA})",
                fix="Delete it, or name another --state",
            )
        for key, value in self._question.items():
            if question.get(key) != value:
                raise UserError(
                    f"{path} is the state of another search: its {key} differs",
                    fix="Delete it, or name another --state",
                )
        measured: dict[str, Any] = found
        return measured


def question_id(question: Mapping[str, Any]) -> str:
    """Eight letters that tell one question from another, for file names."""
    return sha256_bytes(canonical_json(question).encode())[:8]
