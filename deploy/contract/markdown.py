"""A verdict as Markdown, for a pull request or the summary of a CI job.

GitHub shows what a job appends to the file that ``$GITHUB_STEP_SUMMARY`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.console import cell
from deploy.verdict import Check, Verdict
from exporters.errors import UserError

GITHUB_VARIABLE = "GITHUB_STEP_SUMMARY"

_MARKS = {True: "✅ ok", False: "❌ missed", None: "❔ no evidence"}
_HEADS = {"pass": "✅ pass", "fail": "❌ fail", "no evidence": "❔ no evidence, which is a fail"}
_SIGNS = {">=": "≥", "<=": "≤"}


def verdict_markdown(
    verdict: Verdict, *, title: str, facts: Iterable[str] = (), notes: Iterable[str] = ()
) -> str:
    """Head line, facts, the table of checks (what does not hold first), notes.

    Args:
        facts: one line each, ``"Speed-up 1.7×"``.
        notes: what a reader must know before believing the numbers.
    """
    lines = [f"## {escaped(title)}: {_HEADS[verdict.status]}", ""]
    lines += [f"- {escaped(fact)}" for fact in facts]
    checks = sorted(verdict.checks, key=lambda check: (check.ok is True, check.ok is None))
    if checks:
        rows = [_row(check) for check in checks]
        lines += ["", *table(["check", "measured", "required", "result"], rows)]
    else:
        lines += ["", "Nothing was checked."]
    told = [f"> {escaped(note)}" for note in notes]
    lines += ["", *told] if told else []
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; cells are escaped."""
    lines = [_line(columns), _line(["---"] * len(columns))]
    return lines + [_line([escaped(text) for text in row]) for row in rows]


def append_to_github(text: str) -> Path:
    """Append ``text`` to the summary of the running GitHub job.

    Raises:
        UserError: this is no GitHub job.
    """
    target = os.environ.get(GITHUB_VARIABLE)
    if not target:
        raise UserError(
            f"${GITHUB_VARIABLE} is not set, so there is no job to summarise",
            fix="Leave --github-summary away, or write a file with --markdown",
        )
    with Path(target).open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")
    return Path(target)


def escaped(text: str) -> str:
    """``text`` so that Markdown shows it as it is, on one line."""
    text = " ".join(str(text).split())
    for sign in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(sign, f"\\{sign}")
    return text


def _row(check: Check) -> list[str]:
    unit = f" {check.unit}" if check.unit else ""
    value = cell(check.value) + (unit if check.value is not None else "")
    if check.low is not None and check.high is not None:
        value += f" ({cell(check.low)} to {cell(check.high)})"
    required = f"{_SIGNS[check.comparison]} {check.threshold:g}{unit}"
    result = _MARKS[check.ok] + (f": {check.note}" if check.note else "")
    return [check.name, value, required, result]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
