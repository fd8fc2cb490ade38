"""Which assignment of scales is taken: what the whole network's outputs say.

A choice made tensor by tensor sees the output of the layers that read the tensor, and no look at
single layers shows what a whole assignment comes to. A trained FlashOcc lost 5.4 points of mIoU
with choices that were each the best for their own layer, where one percentile for all lost 0.2. So
the two sets of choices and some methods that treat all tensors alike are tried as a whole:
`calibration.scales.trial` says how near the outputs stay to the float network's, on some samples of
the calibration set. The best one is where `calibration.scales.descent` starts, with the others as
its proposals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.queries import WEIGHTED, multiply_adds
from calibration.observing.probe import Probe
from calibration.rounding.twin import WeightGrids
from calibration.samples.subset import spread
from calibration.scales.auto import Choice
from calibration.scales.descent import Assign, Progress, descend
from calibration.scales.methods import SCALES, Percentile, Scale, ScaleMethod
from calibration.scales.trial import FloatRun, Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

ENERGY, POSITION, REFINED = "by energy", "by position", "refined"
"""The two sets of choices, and what comes of the best assignment."""

RIVALS: Mapping[str, ScaleMethod] = {
    "minmax": SCALES.get("minmax"),
    "percentile": SCALES.get("percentile"),
    "percentile 99.9": Percentile(99.9),
    "percentile 99.5": Percentile(99.5),
    "kl-r": SCALES.get("kl-r"),
}
"""One method for all tensors."""

MARGIN_DB = 0.5
"""Choices made for each tensor have seen more than these few samples: ahead by less, a rival loses.
"""

LEAST_DB = 4.0
"""Outputs of which the best assignment leaves less tell nothing: some layer cannot be INT8 at all,
and what is best for it is not best for the rest, once that layer is given back to float."""

MOST_SAMPLES = 8
EVERY_SECOND, THE_OTHERS = slice(0, None, 2), slice(1, None, 2)

BEHIND_DB = 1.5
"""Who is that far behind the best on every second sample is not tried on the others."""

WORK = 6e11
"""Multiply-adds of the model itself that refining may spend: about 10 s on two cores."""

MOST_RUNS = 100
"""Of a small network, on one sample each, that refining may spend."""


@dataclass(frozen=True)
class Rivalry:
    """How the assignments did.

    Attributes:
        choices: those that are taken.
        winner: whose they are, before refining.
        fidelity_db: of the network's outputs by assignment, of every second sample for those far
            behind; empty where no output tells.
        refined: groups of tensors that refining gave another scale.
    """

    choices: list[Choice]
    winner: str
    fidelity_db: Mapping[str, float]
    refined: int = 0


def compete(
    job: Job,
    model: ir.Model,
    contestants: Mapping[str, list[Choice]],
    assign: Assign,
    grids: WeightGrids,
) -> Rivalry:
    """Run the network with each assignment, take the best one and refine it.

    Args:
        model: prepared; it is copied, weights are shared.
        contestants: one choice for every group, by name; the first ones were made for each tensor.
        assign: from choices to a scale for every tensor.
        grids: what weights become.
    """
    first = next(iter(contestants))
    assert job.samples is not None  # checked by the caller
    some = spread(job.samples, min(Probe(model).affordable, MOST_SAMPLES))
    run = FloatRun(job, model, some)
    if not len(run):
        return Rivalry(contestants[first], first, {})
    trial = Trial(job, model, grids, run)
    found = _compared(trial, {name: assign(c) for name, c in contestants.items()}, job.progress)
    rounded = {name: round(db, 2) for name, db in found.items()}
    if max(found.values()) < LEAST_DB:
        return Rivalry(contestants[first], first, rounded)
    winner = max(found, key=lambda name: found[name] - (MARGIN_DB if name in RIVALS else 0.0))
    others = [choices for name, choices in contestants.items() if name != winner]
    end = descend(
        trial, contestants[winner], others, assign, runs=_runs(model), progress=job.progress
    )
    if end.changed:
        rounded[REFINED] = round(float(trial.fidelities_db(assign(end.choices)).mean()), 2)
    return Rivalry(end.choices, winner, rounded, end.changed)


def _compared(
    trial: Trial, contestants: Mapping[str, dict[ir.Value, Scale]], progress: Progress | None
) -> dict[str, float]:
    """Fidelity by contestant, in dB: of all samples, or of every second for who is behind."""
    seen: dict[str, list[float]] = {}
    for done, (name, scales) in enumerate(contestants.items()):
        seen[name] = [*trial.fidelities_db(scales, EVERY_SECOND)]
        if progress:
            progress("scales, compared", done + 1, len(contestants))
    enough = max(float(np.mean(numbers)) for numbers in seen.values()) - BEHIND_DB
    near = [name for name, numbers in seen.items() if np.mean(numbers) >= enough]
    for done, name in enumerate(near):
        seen[name] += [*trial.fidelities_db(contestants[name], THE_OTHERS)]
        if progress:
            progress("scales, compared again", done + 1, len(near))
    return {name: float(np.mean(numbers)) for name, numbers in seen.items()}


def _runs(model: ir.Model) -> int:
    """Of one sample, that refining may spend."""
    work = sum(multiply_adds(node) for node in model.graph if node.op_type in WEIGHTED)
    return min(int(WORK / work), MOST_RUNS) if work else 0
