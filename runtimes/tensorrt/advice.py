"""What to write instead of an operator that TensorRT refuses: ``substitutes.toml``, by operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtimes.base import Evidence
from runtimes.tomlfile import parse, read_toml

TABLE = Path(__file__).with_name("substitutes.toml")
_FALLBACK = "Export the same arithmetic with other standard operators"
_LIST = "List what is refused: edgeport check MODEL.onnx --target TARGET"


@dataclass(frozen=True)
class Substitute:
    """One row.

    Attributes:
        op_types: operators it helps with; ``*`` for all.
        says: only where the parser's message contains this.
    """

    op_types: tuple[str, ...]
    advice: str
    evidence: Evidence
    says: str = ""

    def fits(self, op_type: str, message: str) -> bool:
        known = "*" in self.op_types or op_type in self.op_types
        return known and self.says.lower() in message.lower()


@cache
def substitutes() -> tuple[Substitute, ...]:
    rows = read_toml(TABLE)["substitutes"]
    return tuple(parse(Substitute, row, f"substitutes[{i}]") for i, row in enumerate(rows))


def advice_for(op_type: str, message: str) -> str:
    """What to type or export instead, for a refusal of ``op_type`` with ``message``.

    An empty ``op_type`` means that nobody knows which node it was.
    """
    for row in substitutes():
        if row.fits(op_type, message):
            return row.advice
    return _FALLBACK if op_type else _LIST
