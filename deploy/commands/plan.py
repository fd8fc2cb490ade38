"""``edgeport plan``: how many samples does it take to show a loss?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output


def command(
    evidence: Annotated[
        list[Path] | None,
        typer.Argument(help="A bundle, or JSON that verify --json wrote: the pilot."),
    ] = None,
    loss: Annotated[
        float | None, typer.Option(help="That must not be overlooked, in the metric's unit.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=2, help="Or: what loss would so many samples show?")
    ] = None,
    deviation: Annotated[
        float | None, typer.Option(help="Without a pilot: spread of single samples' differences.")
    ] = None,
    discordant: Annotated[
        float | None,
        typer.Option(help="Without a pilot: share of samples on which one model alone is right."),
    ] = None,
    power: Annotated[
        float, typer.Option(help="Probability of showing a loss that is there.")
    ] = 0.8,
    confidence: Annotated[float, typer.Option(help="Of the interval.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """How many samples show a loss, or what loss a number of samples shows.

    For example, from a first comparison, and from a guess:

        edgeport plan demo-bundle --loss 0.5

        edgeport plan --deviation 2.5 --loss 0.5

    A loss counts as shown where its whole interval lies below zero. Means are planned with
    Student's t, labels with Connor's formula for McNemar's test.

    Known limits: the spread is taken from the pilot; of few samples it is itself uncertain.
    """
    from deploy.contract.reading import read_evidence
    from deploy.metrics.planning import Level
    from deploy.planning import Wanted, plan_from, plan_from_guess

    out = Output(json=as_json)
    wanted = Wanted(loss, samples, Level(confidence, power))
    if evidence:
        rows = plan_from([file for path in evidence for file in read_evidence(path)], wanted)
    else:
        rows = [plan_from_guess(deviation, discordant, wanted)]
    columns = ["file", "metric", "unit", "spread", "samples now", "they show", "samples", "show"]
    out.table(
        f"A loss is shown with a probability of {power:.0%}, by intervals of {confidence:.0%}",
        columns,
        [
            [
                row.file or None,
                row.metric,
                row.unit,
                row.deviation,
                row.samples_now,
                None if math.isnan(row.detectable_now) else row.detectable_now,
                row.samples,
                None if math.isnan(row.loss) else row.loss,
            ]
            for row in rows
        ],
    )
    out.result(
        {"schema": "edgeport.plan/1", "power": power, "confidence": confidence, "rows": rows}
    )
