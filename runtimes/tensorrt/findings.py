"""What a parser and the table said, as findings in one list with advice."""

from __future__ import annotations

from dataclasses import replace

from runtimes.base import Evidence, Finding
from runtimes.targets import Stack
from runtimes.tensorrt.advice import advice_for
from runtimes.tensorrt.buildlog import plain_words
from runtimes.tensorrt.capability import Capability
from runtimes.tensorrt.installed import Installed


def parser_findings(capability: Capability, parser: str, decides: bool) -> list[Finding]:
    """Refusals of the parser called ``parser``: errors if it is the target's own, else notes."""
    source = f"the parser of {parser}, run here"
    findings = [
        Finding(
            severity="error" if decides else "note",
            message=plain_words(refusal.message),
            node=refusal.node,
            op_type=refusal.op_type,
            source=source,
            evidence=Evidence.BUILT,
        )
        for refusal in capability.refusals
    ]
    if not capability.complete:
        message = "the parser could not look past the last node it refused; there may be more"
        findings.append(Finding("note", message, source=source, evidence=Evidence.BUILT))
    return findings


def merged(table: list[Finding], parser: list[Finding]) -> list[Finding]:
    """One finding a node: an error before a note, the parser's before the table's."""
    errors = {f.node for f in (*parser, *table) if f.severity == "error" and f.node}
    heard = [f for f in parser if f.severity == "error" or f.node not in errors]
    judged = {f.node for f in heard if f.node}
    return heard + [f for f in table if f.node not in judged]


def advised(finding: Finding) -> Finding:
    """The finding with a substitute for its operator, where it has no fix yet."""
    if finding.fix or not finding.op_type:
        return finding
    return replace(finding, fix=advice_for(finding.op_type, finding.message))


def hints_of(stack: Stack, installed: Installed | None) -> list[Finding]:
    """Notes about a target as a whole: whose verdict this is, and what its version is like."""
    source = f"targets.toml {stack.key}"
    hints = []
    if installed is None or not installed.is_stack(stack):
        message = f"the parser of {stack.name} is not on this machine; this verdict is the table's"
        fix = f"For the parser's own verdict, on the device: {stack.setup}"
        hints.append(Finding("note", message, fix=fix, source=source, evidence=stack.evidence))
    if stack.note:
        hints.append(Finding("note", stack.note, source=source, evidence=stack.evidence))
    return hints
