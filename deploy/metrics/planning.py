"""How many samples show a loss, and what loss a number of samples shows.

A loss L counts as shown where its whole 95 % interval lies below zero; it is to be shown with a
probability of 80 %. With d the standard deviation of what one sample contributes:

    mean         n = ((t_c + t_p) d / L)²        t with n - 1 degrees of freedom, so by search
    right/wrong  n = (z_c sqrt(psi) + z_p sqrt(psi - L²))² / L²
                 psi: share of samples on which exactly one model is right (Connor, "Sample size for
                 testing differences in proportions for the paired-sample design", Biometrics 43,
                 1987); at least L, since a loss is made of such samples
    none at all  n = ln((1 - c) / 2) / ln(1 - L)  so that n equal answers bound the share by L
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from deploy.metrics.paired import CONFIDENCE, POWER
from deploy.metrics.quantiles import student_t
from exporters.errors import UserError

MOST = 100_000_000


@dataclass(frozen=True)
class Level:
    """How sure one wants to be.

    Attributes:
        confidence: of the two-sided interval.
        power: probability of showing a loss that is there.
    """

    confidence: float = CONFIDENCE
    power: float = POWER

    def __post_init__(self) -> None:
        for name in ("confidence", "power"):
            value = getattr(self, name)
            if not 0.5 <= value < 1:
                raise UserError(f"{name} is {value:g}", fix="Give a number from 0.5 to below 1")

    @property
    def z(self) -> tuple[float, float]:
        normal = NormalDist()
        return normal.inv_cdf((1 + self.confidence) / 2), normal.inv_cdf(self.power)


def samples_for_mean(deviation: float, loss: float, level: Level | None = None) -> int:
    """Samples that show a mean loss of ``loss``, both in the metric's unit.

    >>> samples_for_mean(2.5, 0.5)
    199
    """
    _require_loss(loss)
    return _fewest(lambda n: loss_of_mean(deviation, n, level) <= loss)


def loss_of_mean(deviation: float, samples: int, level: Level | None = None) -> float:
    """The smallest mean loss that ``samples`` samples show."""
    level = level or Level()
    _require_samples(samples)
    upper = student_t((1 + level.confidence) / 2, samples - 1)
    return (upper + student_t(level.power, samples - 1)) * deviation / math.sqrt(samples)


def samples_for_labels(discordant: float, loss: float, level: Level | None = None) -> int:
    """Samples that show that ``loss`` more of them are wrong.

    Args:
        discordant: share of samples on which exactly one of the models is right.
        loss: share right with the reference minus share right with the candidate.

    >>> samples_for_labels(0.03, 0.01)
    2353
    """
    _require_loss(loss)
    if not loss <= discordant <= 1:
        raise UserError(
            f"a share of {loss:g} cannot be lost while the two differ on {discordant:g}",
            fix="The share on which they differ is at least the loss, and at most 1",
        )
    z_confidence, z_power = (level or Level()).z
    root = z_confidence * math.sqrt(discordant) + z_power * math.sqrt(discordant - loss**2)
    return max(2, math.ceil((root / loss) ** 2))


def loss_of_labels(discordant: float, samples: int, level: Level | None = None) -> float:
    """The smallest share lost that ``samples`` samples show; NaN where not even all of it is."""
    _require_samples(samples)
    if samples_for_labels(discordant, discordant, level) > samples:
        return math.nan
    low, high = 0.0, discordant
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        enough = samples_for_labels(discordant, middle, level) <= samples
        low, high = (low, middle) if enough else (middle, high)
    return high


def samples_for_none(share: float, confidence: float = CONFIDENCE) -> int:
    """Samples of which all must be alike to bound the share of others by ``share``.

    >>> samples_for_none(0.01)
    368
    """
    _require_loss(share)
    if share >= 1:
        return 1
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-share))


def _fewest(enough: Callable[[int], bool], start: int = 2) -> int:
    """The smallest n for which ``enough`` holds, which then holds for every larger one."""
    high = start
    while not enough(high):
        if high > MOST:
            raise UserError(
                f"more than {MOST:,} samples would be needed", fix="Ask for a larger loss"
            )
        high *= 2
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _require_loss(loss: float) -> None:
    if not loss > 0:
        raise UserError(f"a loss to detect must be positive, not {loss:g}")


def _require_samples(samples: int) -> None:
    if samples < 2:
        raise UserError(f"{samples} samples say nothing about spread", fix="Ask for two or more")
