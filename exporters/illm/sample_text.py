"""Text that smoothing statistics come from where the user gives none: prose, speech, code, lists.

It is short, English and written for this purpose. For another language or domain give your own.
"""

from __future__ import annotations

from importlib.resources import files

from exporters.errors import UserError


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
