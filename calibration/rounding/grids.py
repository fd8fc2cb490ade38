"""What weights become; ranges of activations are chosen afterwards, for the rounded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.observing.statistics import Statistics
from calibration.qdq.placement import Placement
from calibration.rounding.compensating import compensate_roundings
from calibration.rounding.learning import Learning
from calibration.rounding.twin import WeightGrids
from calibration.scales.ranges import first_method, scales_by_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    from calibration.job import Job

FEWEST_SAMPLES = 8
"""Without being asked to, GPTQ learns from no fewer."""


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
    if job.decided is not None:
        return job.decided.grids, _of_placed(job.decided.learning, placement)
    grids = WeightGrids(job.form, fixed)
    asked = job.options.rounding
    many = job.samples is not None and len(job.samples) >= FEWEST_SAMPLES
    if asked != "gptq" and not (asked == "auto" and many):
        return grids, Learning({})
    scales = scales_by_method(job, model, placement, statistics, first_method(job))
    learning = compensate_roundings(job, model, placement, scales, grids)
    return WeightGrids(job.form, fixed, learning.rounded), learning


def _of_placed(learning: Learning, placement: Placement) -> Learning:
    """What was learned of the layers that are quantized."""
    placed = {item.node.name for item in placement.weighted}
    return Learning(
        learning.rounded,
        tuple(layer for layer in learning.layers if layer.node in placed),
        tuple(item for item in learning.left if item.node in placed),
    )
