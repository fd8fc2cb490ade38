"""``edgeport plan``: how many samples a question takes, from a first comparison or a guess.

The spread of what single samples say decides it, and a pilot of a few dozen samples shows the
spread long before it shows the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.contract.evidence import FileEvidence, MetricEvidence
from deploy.metrics.paired import BINOMIAL, TANGO, PairedInterval
from deploy.metrics.planning import (
    Level,
    loss_of_labels,
    loss_of_mean,
    samples_for_labels,
    samples_for_mean,
    samples_for_none,
)
from exporters.errors import UserError


@dataclass(frozen=True)
class Planned:
    """The answer for one metric.

    Attributes:
        samples_now: of the pilot; None for a guess.
        detectable_now: the loss that those show.
        samples: that ``loss`` takes.
        loss: what ``samples`` show; NaN where they show none.
    """

    file: str
    metric: str
    unit: str
    deviation: float
    samples_now: int | None
    detectable_now: float
    samples: int
    loss: float


@dataclass(frozen=True)
class Wanted:
    """The question: samples for a loss, or the loss that a number of samples shows.

    Raises:
        UserError: neither or both.
    """

    loss: float | None
    samples: int | None
    level: Level

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.samples is None):
            raise UserError(
                "ask for the samples of a loss, or for the loss that samples show",
                fix="Give one of --loss and --samples",
            )


def plan_from(files: Iterable[FileEvidence], wanted: Wanted) -> list[Planned]:
    """An answer for every metric that has an interval.

    Raises:
        UserError: no metric of a file has one.
    """
    planned = [
        _planned(file.name, metric, metric.difference, wanted)
        for file in files
        for metric in file.metrics or ()
        if metric.difference is not None
    ]
    if not planned:
        raise UserError(
            "no metric here has an interval to plan from",
            fix="Verify on a few dozen samples first, or give --deviation",
        )
    return planned


def plan_from_guess(deviation: float | None, discordant: float | None, wanted: Wanted) -> Planned:
    """The answer from a guess at the spread.

    Args:
        deviation: of what one sample contributes to the difference, in the metric's unit.
        discordant: or the share of samples on which exactly one of the models is right.

    Raises:
        UserError: neither or both.
    """
    if (deviation is None) == (discordant is None):
        raise UserError(
            "the spread has to come from somewhere",
            fix="Name a bundle or a comparison, or give one of --deviation and --discordant",
        )
    if discordant is not None:
        samples, loss = _labels(discordant, wanted)
        return Planned(
            "", "right or wrong", "", math.sqrt(discordant), None, math.nan, samples, loss
        )
    assert deviation is not None
    samples, loss = _mean(deviation, wanted)
    return Planned("", "mean", "", deviation, None, math.nan, samples, loss)


def _planned(
    file: str, metric: MetricEvidence, interval: PairedInterval, wanted: Wanted
) -> Planned:
    deviation = interval.deviation
    if deviation == 0.0:
        samples, loss = _none(interval, wanted)
    elif interval.method in (TANGO, BINOMIAL):
        samples, loss = _labels(min(1.0, deviation**2 + interval.value**2), wanted)
    else:
        samples, loss = _mean(deviation, wanted)
    name = f"{metric.output} {metric.name}".strip()
    return Planned(
        file, name, metric.unit, deviation, interval.samples, interval.detectable, samples, loss
    )


def _mean(deviation: float, wanted: Wanted) -> tuple[int, float]:
    if wanted.loss is not None:
        return samples_for_mean(deviation, wanted.loss, wanted.level), wanted.loss
    assert wanted.samples is not None
    return wanted.samples, loss_of_mean(deviation, wanted.samples, wanted.level)


def _labels(discordant: float, wanted: Wanted) -> tuple[int, float]:
    if wanted.loss is not None:
        # a loss that is larger than what now differs is made of more that differ
        return samples_for_labels(max(discordant, wanted.loss), wanted.loss, wanted.level), (
            wanted.loss
        )
    assert wanted.samples is not None
    return wanted.samples, loss_of_labels(discordant, wanted.samples, wanted.level)


def _none(interval: PairedInterval, wanted: Wanted) -> tuple[int, float]:
    """All samples of the pilot were alike: how many more must be."""
    shares = interval.method in (TANGO, BINOMIAL)
    if wanted.loss is not None:
        return samples_for_none(wanted.loss, wanted.level.confidence) if shares else 2, wanted.loss
    assert wanted.samples is not None
    share = 1 - ((1 - wanted.level.confidence) / 2) ** (1 / wanted.samples)
    return wanted.samples, share if shares else math.nan
