"""What is done to integers and biases between choosing scales and inserting Q/DQ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from calibration.qdq.placement import Placement
from calibration.rounding.bias import Correction, correct_biases
from calibration.rounding.learning import Learning, learn_roundings
from calibration.rounding.twin import WeightGrids
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job


@dataclass(frozen=True)
class Refinement:
    """The grids to insert with, and what happened on the way."""

    grids: WeightGrids
    learning: Learning
    correction: Correction


def refine(
    job: Job,
    model: ir.Model,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    grids: WeightGrids,
    lap: Callable[[str], None],
) -> Refinement:
    """Learn roundings, then correct biases for what is left, as the job's options say.

    Args:
        model: its biases may be shifted, in place, and ``placement`` with them.
        lap: told the name of every phase that has ended.
    """
    learning, correction = Learning({}), Correction()
    if job.options.rounding == "adaround":
        learning = learn_roundings(job, model, placement, scales, grids)
        grids = replace(grids, rounded=learning.rounded)
        lap("rounding")
    if job.options.correct_bias:
        correction = correct_biases(job, model, placement, scales, grids)
        lap("bias")
    return Refinement(grids, learning, correction)
