"""Text that an export's statistics come from: the user's, and a short one of our own.

Ours is English (prose, speech, code, lists), written for this purpose, some 2,500 tokens long. It
serves where none is given, and follows a text that is too short for GPTQ's second moments. For
another language or domain give your own: at 4 bits it pays off for English, too (docs/illm.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from exporters.errors import UserError
from exporters.illm.tokenizer import Tokenizer

BUILT_IN = "built-in English text"


@dataclass(frozen=True)
class CalibrationText:
    """Attributes: name: for people; pieces: token ids."""

    name: str
    pieces: list[list[int]]


def calibration_text(
    path: Path | None, tokenizer: Tokenizer, *, length: int, pieces: int, least: int
) -> CalibrationText:
    """The text at ``path``, and ours after it where it is None or has few tokens.

    Args:
        length: of a piece at most. pieces: so many at most.
        least: tokens of the user's text that need nothing after them.

    Raises:
        UserError: unreadable, no UTF-8, or empty.
    """
    names, ids = [], list[int]()
    if path is not None:
        enough = 16 * length * pieces  # a token is rarely longer; no need to read a novel
        ids = tokenizer.encode(_read(path)[:enough])
        chunks(ids, length, pieces)
        names.append(path.name)
    if path is None or len(ids) < least:
        ids = ids + tokenizer.encode(sample_text(), special=not ids)
        names.append(BUILT_IN)
    return CalibrationText(" and ".join(names), chunks(ids, length, pieces))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read calibration text from {path}: {error}",
            fix="Give a UTF-8 text file with --text",
        ) from error


def sample_text() -> str:
    return files("exporters.illm").joinpath("sample_text.txt").read_text(encoding="utf-8")


def chunks(ids: list[int], length: int, count: int) -> list[list[int]]:
    """Up to ``count`` pieces of ``ids`` of at most ``length`` tokens.

    Raises:
        UserError: there are no tokens.
    """
    if not ids:
        raise UserError("the calibration text is empty", fix="Give another file with --text")
    return [ids[start : start + length] for start in range(0, len(ids), length)][:count]
