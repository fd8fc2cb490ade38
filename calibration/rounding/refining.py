"""What is done to integers and biases between choosing scales and inserting Q/DQ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from calibration.observing.probe import Probe
from calibration.qdq.placement import Placement
from calibration.rounding.bias import Correction, correct_biases
from calibration.rounding.learning import Learning, learn_roundings
from calibration.rounding.twin import WeightGrids
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job


FEWEST_SAMPLES = 8
"""Six to learn from and two to judge by: where fewer are affordable, only on request."""


@dataclass(frozen=True)
class Refinement:
    """The grids to insert with, and what happened on the way; None where nothing was learned."""

    grids: WeightGrids
    learning: Learning | None
    correction: Correction


def refine(
    job: Job,
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    grids: WeightGrids,
    lap: Callable[[str], None],
) -> Refinement:
    """Correct biases, then learn roundings for what is left, as the job's options say.

    In this order learning need not spend its freedom on the mean.

    Args:
        model: its biases may be shifted, in place, and ``placement`` with them.
        lap: told the name of every phase that has ended.
    """
    learning: Learning | None = None
    correction = Correction()
    real = model.clone()
    if _corrects(job, model):
        correction = correct_biases(job, model, placement, scales, grids)
        lap("bias")
    if job.options.rounding == "adaround":
        learning = learn_roundings(job, model, placement, scales, grids, real=real)
        grids = replace(grids, rounded=learning.rounded)
        lap("rounding")
    return Refinement(grids, learning, correction)


def _corrects(job: Job, model: ir.Model) -> bool:
    """Whether biases are corrected: as asked for, else where it is cheap and can be judged."""
    if job.options.correct_bias is not None:
        return job.options.correct_bias
    if job.samples is None:
        return False
    return min(len(job.samples), Probe(model).affordable) >= FEWEST_SAMPLES
