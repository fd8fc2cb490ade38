"""``--scales auto`` against one method for all tensors, by what the whole network gives.

A choice made tensor by tensor sees the output of the layers that read the tensor, and adds squared
errors over all positions. Where few positions hold the large values, those decide: features of a
bird's-eye view, which are large beside the vehicle and small everywhere else, get a range for the
neighbourhood of the vehicle, and each layer takes more from the rest. A trained FlashOcc lost 5.4
points of mIoU that way, where one percentile for all lost 0.2. No look at single layers shows it;
the network's own outputs do, so the choices have to win there too:

    SQNR of the outputs in dB, mean over some calibration samples, whole network rounded

The choices stay unless one method for all is better by `MARGIN_DB`: they have seen more than these
few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.observing.probe import Probe
from calibration.rounding.bench import Bench
from calibration.rounding.twin import WeightGrids
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

RIVALS = ("percentile", "kl-r")
"""Methods that clip; the full range and least squared error are what choices already lean to."""

MARGIN_DB = 0.5
MOST_SAMPLES = 8


@dataclass(frozen=True)
class Rivalry:
    """SQNR of the network's outputs by assignment, ``auto`` first; empty where none was told.

    Attributes:
        winner: whose scales are taken.
    """

    sqnr_db: Mapping[str, float]
    winner: str = "auto"


def compete(
    job: Job,
    model: ir.Model,
    assignments: Mapping[str, Mapping[ir.Value, Scale]],
    grids: WeightGrids,
) -> Rivalry:
    """Run the network with each assignment of scales and name the best one.

    Args:
        model: prepared; it is copied, weights are shared.
        assignments: ``auto`` and its rivals, scales by tensor.
        grids: what weights become.
    """
    count = min(Probe(model).affordable, MOST_SAMPLES)
    found = {}
    for name, scales in assignments.items():
        by_name = {value.name or "": scale for value, scale in scales.items()}
        bench = Bench(job, model, by_name, grids, count)
        found[name] = round(float(bench.output_sqnr(every=True).mean()), 2)
    if not any(found.values()):
        return Rivalry({})
    best = max(found, key=lambda name: found[name])
    return Rivalry(found, best if found[best] > found["auto"] + MARGIN_DB else "auto")
