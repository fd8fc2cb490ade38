"""Calibration text as tokens: read piece by piece, only as far as it is needed."""

from __future__ import annotations

from pathlib import Path

from exporters.errors import UserError
from exporters.illm.tokenizer import Tokenizer

_READ_CHARACTERS = 1 << 16


def read_pieces(path: Path, tokenizer: Tokenizer, *, tokens: int, pieces: int) -> list[list[int]]:
    """Up to ``pieces`` pieces of exactly ``tokens`` tokens from the start of a UTF-8 file.

    Raises:
        UserError: no such file, no UTF-8, or fewer than two pieces in it.
    """
    ids: list[int] = []
    rest = ""
    try:
        with path.open(encoding="utf-8") as file:
            while len(ids) < tokens * pieces and (read := file.read(_READ_CHARACTERS)):
                # cut where words end, or a token would be torn
                head, space, tail = (rest + read).rpartition(" ")
                ids += tokenizer.encode(head, special=not ids) if space else []
                rest = space + tail
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read calibration text from {path}: {error}",
            fix="Give a UTF-8 text file with --text",
        ) from error
    if len(ids) < tokens * pieces:
        ids += tokenizer.encode(rest, special=not ids)
    found = len(ids) // tokens
    if found < 2:
        raise UserError(
            f"{path} has {len(ids)} tokens; learning needs two pieces of {tokens}, one to judge by",
            fix="Give a longer text, or fewer --tokens",
        )
    return [ids[i * tokens : (i + 1) * tokens] for i in range(min(found, pieces))]
