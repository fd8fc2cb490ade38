"""``edgeport judge``: does this evidence show that a contract holds?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from deploy.verdict import Verdict


def command(
    evidence: Annotated[
        list[Path],
        typer.Argument(help="Bundles, and JSON that verify --json or bench --json wrote."),
    ],
    contract: Annotated[
        Path | None,
        typer.Option(help="YAML with preset and require, or a recipe; else the bundle's own."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="TERM", help="A further term: 'p99_ms<=40'; may be repeated."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="mlperf-99 or mlperf-99.9: the task's metric keeps that %.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(help="That the terms are about, 'int8-tensorrt'; may be repeated."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown there.")] = None,
    github_summary: Annotated[
        bool, typer.Option("--github-summary", help="Append the Markdown to the job's summary.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace those files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge what was measured by a contract: pass, fail, or no evidence, which fails.

    Nothing is measured again: evidence is a bundle, and what other commands wrote. So a board's
    latency and energy can be judged with the accuracy that was found here. For example:

        edgeport judge demo-bundle --contract contract.yaml --junit junit.xml

        edgeport bench m.int8.onnx --board ssh://nvidia@orin --energy 30 --json > board.json

        edgeport judge demo-bundle board.json --file m.int8 --require "frame_j<=0.5"

    Exit code 0 when every term holds, 1 otherwise: a term without evidence, or one that so few
    samples cannot decide, does not hold. docs/contract.md has the terms.

    Known limits: files of several sources are matched by name, m.int8 for m.int8.onnx.
    """
    from deploy.contract.asking import Question, judge_evidence
    from deploy.contract.junit import junit_xml
    from deploy.contract.markdown import append_to_github, verdict_markdown
    from exporters.files import require_writable, write_text

    out = Output(json=as_json)
    for path in filter(None, (junit, markdown)):
        require_writable(path, overwrite=overwrite)
    question = Question(contract, tuple(require or ()), preset, tuple(file or ()))
    verdict = judge_evidence(evidence, question)
    title = evidence[0].name
    text = verdict_markdown(verdict, title=title)
    if junit is not None:
        write_text(junit, junit_xml(verdict, name=title), overwrite=overwrite)
    if markdown is not None:
        write_text(markdown, text, overwrite=overwrite)
    if github_summary:
        append_to_github(text)
    _show(out, verdict)
    out.result({"schema": "edgeport.verdict/1", **verdict.to_json()})
    raise typer.Exit(verdict.exit_code)


def _show(out: Output, verdict: Verdict) -> None:
    for check in verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {verdict.status}")
