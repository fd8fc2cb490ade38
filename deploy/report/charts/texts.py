"""How long greedy texts are those of the reference, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from deploy.report.schema import Completion


@dataclass(frozen=True)
class Alike:
    """Of one file over all prompts.

    Attributes:
        identical: texts that are the reference's to the end.
        least, middle: tokens at the beginning that are the reference's: fewest, median.
    """

    name: str
    texts: int
    identical: int
    least: int
    middle: float


def written_alike(completions: Sequence[Completion]) -> list[Alike]:
    """Every file but the reference, in the report's order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for completion in completions:
        for text in completion.texts:
            if text.same_tokens is not None:
                found.setdefault(text.name, []).append((text.same_tokens, text.tokens))
    return [
        Alike(
            name,
            len(pairs),
            sum(same == tokens for same, tokens in pairs),
            min(same for same, _ in pairs),
            median(same for same, _ in pairs),
        )
        for name, pairs in found.items()
    ]
