"""A bundle's verdict for others: ``junit.xml`` for a CI server, ``verdict.md`` for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.contract.junit import junit_xml
from deploy.contract.markdown import verdict_markdown
from deploy.verdict import Check, Verdict
from exporters.files import write_text

JUNIT, MARKDOWN = "junit.xml", "verdict.md"


def write_verdict(folder: Path, report: Mapping[str, Any]) -> None:
    """Write both files from a ``report.json`` that is already loaded."""
    verdict = verdict_of_report(report)
    markdown = verdict_markdown(
        verdict, title=report["title"], facts=_facts(report), notes=report["notes"]
    )
    junit = junit_xml(verdict, name=report["title"], created=report["created"])
    for name, text in ((JUNIT, junit), (MARKDOWN, markdown)):
        write_text(folder / name, text, overwrite=True)


def verdict_of_report(report: Mapping[str, Any]) -> Verdict:
    return Verdict(tuple(Check(**check) for check in report["verdict"]["checks"]))


def _facts(report: Mapping[str, Any]) -> list[str]:
    """The three numbers of the report's first page."""
    from deploy.report.headlines import headlines
    from deploy.report.reading import parse_report

    facts = []
    for item in headlines(parse_report(report)):
        source = f" ({item.source})" if item.source else ""
        facts.append(f"{item.label}: {item.value or 'no evidence'}, {item.detail}{source}")
    return facts
