"""What weights become; ranges of activations are chosen afterwards, for the rounded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.observing.statistics import Statistics
from calibration.qdq.placement import Placement
from calibration.rounding.compensating import compensate_roundings
from calibration.rounding.learning import Learning
from calibration.rounding.twin import WeightGrids
from calibration.scales.ranges import scales_by_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    from calibration.job import Job

FEWEST_SAMPLES = 8
"""Without being asked to, GPTQ learns from no fewer."""

UNDECIDED = "mse"
"""Ranges of activations that weights are rounded for, where those ranges are chosen afterwards."""


def weight_grids(
    job: Job,
    model: ir.Model,
    placement: Placement,
    statistics: Statistics,
    fixed: Mapping[str, NDArray[np.float32]],
) -> tuple[WeightGrids, Learning]:
    """Grids and, as the job's options say, integers; and what was learned of each layer.

    Args:
        fixed: grids that a split has made, by weight name.
    """
    grids = WeightGrids(job.form, fixed)
    asked = job.options.rounding
    many = job.samples is not None and len(job.samples) >= FEWEST_SAMPLES
    if asked != "gptq" and not (asked == "auto" and many):
        return grids, Learning({})
    method = UNDECIDED if job.options.scales == "auto" else job.options.scales
    scales = scales_by_method(job, model, placement, statistics, method)
    learning = compensate_roundings(job, model, placement, scales, grids)
    return WeightGrids(job.form, fixed, learning.rounded), learning
