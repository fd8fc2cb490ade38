"""``edgeport verify`` on a text: one language model against another, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.contract.terms import Term, parse_term
from deploy.language.perplexity import (
    MEASURES,
    WINDOW,
    Progress,
    TextComparison,
    compare_on_text,
    read_text,
)
from deploy.language.stepping import LanguageModel
from deploy.verdict import Check, Verdict, judge, judge_interval
from exporters.errors import UserError, did_you_mean

TEXT_COMPARISON_SCHEMA = "edgeport.text-comparison/1"


@dataclass(frozen=True)
class TextVerdict:
    """What a text says of a candidate.

    Attributes:
        notes: how the weights were stored, of either file.
    """

    reference: str
    candidate: str
    text: str
    comparison: TextComparison
    verdict: Verdict
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": TEXT_COMPARISON_SCHEMA,
            "reference": self.reference,
            "candidate": self.candidate,
            "text": self.text,
            **self.comparison.to_json(),
            "notes": list(self.notes),
            "verdict": self.verdict.to_json(),
        }


def verify_on_text(
    reference: Path,
    candidate: Path,
    text: Path,
    *,
    require: Sequence[str] = (),
    window: int = WINDOW,
    max_tokens: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TextVerdict:
    """Compare two language models on ``text`` and judge the second.

    Args:
        require: ``perplexity_ratio<=1.015``, ``kl_nats<=0.02``, ``top1_agreement>=0.9``,
            ``perplexity<=40``; judged by their intervals over windows.
        window: tokens that a prediction may look back on at most, and the unit of resampling.
        max_tokens: of the text; None for all.

    Raises:
        UserError: a term that makes no sense, files that do not belong together, a bad text.
    """
    terms = [_checked(parse_term(term), term) for term in require]
    content = read_text(text)
    with (
        LanguageModel.open(reference, threads=threads) as right,
        LanguageModel.open(candidate, threads=threads) as judged,
    ):
        found = compare_on_text(
            right, judged, content, window=window, max_tokens=max_tokens, progress=progress
        )
        notes = dict.fromkeys(
            note for model in (right, judged) for note in model.spec.geometry.get("stored", ())
        )
    checks = tuple(_judge(term, found) for term in terms) or (_finite(found),)
    return TextVerdict(
        reference.name, candidate.name, text.name, found, Verdict(checks), tuple(notes)
    )


def _checked(term: Term, text: str) -> Term:
    if term.name not in MEASURES:
        raise UserError(
            f"unknown measure of a text {term.name!r}", fix=did_you_mean(term.name, MEASURES)
        )
    if term.condition.factor is not None:
        raise UserError(
            f"--require {text!r}: measures of a text are bounded by numbers",
            fix="For a share of the reference write perplexity_ratio<=1.015",
        )
    return term


def _judge(term: Term, found: TextComparison) -> Check:
    condition, interval = term.condition, found.measures[term.name]
    if interval is None:
        note = "one window has no spread; give a longer text or a smaller --window"
        return judge(term.name, None, condition.comparison, condition.offset, note=note)
    value = found.value(term.name)
    return judge_interval(term.name, value, interval, condition.comparison, condition.offset)


def _finite(found: TextComparison) -> Check:
    return judge("perplexity", found.perplexity, "<=", float("inf"))
