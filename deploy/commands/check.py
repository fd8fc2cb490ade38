"""``edgeport check``: would this model file build for that target?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.console import Output
from exporters.errors import EXIT_OK, EXIT_VERDICT_FAIL
from runtimes.base import Finding


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).")],
    target: Annotated[
        str, typer.Option("--target", help="Device and software; `edgeport doctor` lists them.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Check every operator and type of a model file against a target, before any build.

    Where the target's own parser is installed it is asked about every node in place, past the
    first refusal; what a builder refuses later, and targets whose parser is elsewhere, are
    judged by the target table. Each finding names the node, a substitute and its evidence.
    Exit code 1 if something would stop the build. Example:

        edgeport check m.onnx --target jetson-orin-agx/jp6.2/trt10.3

    Known limits: for a Jetson the verdict is the table's, and TensorRT-RTX's parser, if it is
    here, only adds hints. A model that passes can still fail to build.
    """
    from runtimes import preflight

    out = Output(json=as_json)
    findings = preflight(model, target)
    result = summary(model, target, findings)
    out.table(
        f"{model} on {target}",
        ["severity", "node", "operator", "finding", "instead", "evidence", "said by"],
        [[f.severity, f.node, f.op_type, f.message, f.fix, f.evidence, f.source] for f in findings],
    )
    errors = result["errors"]
    verdict = "nothing known stops a build" if errors == 0 else f"{errors} would stop a build"
    out.say(
        f"{verdict}; evidence: {result['evidence'].value}, "
        f"of edgeport's code for this target: {result['adapter'].value}"
    )
    out.result(result)
    return EXIT_VERDICT_FAIL if errors else EXIT_OK


def summary(model: Path, target: str, findings: list[Finding]) -> dict[str, Any]:
    """The findings with their count, and how far the verdict as a whole can be trusted."""
    from runtimes import targets

    table = targets.load()
    stack = table.stack_of(table.get(target))
    return {
        "schema": "edgeport.check/1",
        "model": model,
        "target": target,
        "evidence": stack.evidence,
        "adapter": stack.adapter,
        "errors": sum(finding.severity == "error" for finding in findings),
        "findings": findings,
    }
