"""Findings about two sets: do calibration and evaluation see the same world?

Every sample is a point: of images brightness, contrast and smoothness, and apart from those what
red and blue have more of brightness and contrast than green; of other inputs mean and standard
deviation. Features are divided by their pooled standard deviation. The distance of two sets is the
energy distance (Székely and Rizzo 2013)

    E = 2 E|X - Y| - E|X - X'| - E|Y - Y'|,

its p-value the share of 999 random regroupings that lie as far apart, its size ``E / 2 E|X - Y|``,
between 0 (one distribution) and 1 (two points). Single features are told by Cohen's d.

Red and blue exchanged shows here and only here: if exchanging the channels of one set brings the
two together, one of them is wrong. From one set alone the order cannot be known: no statistic of
skies and leaves holds for every camera, so nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calibration.samples.doctor.examination import COLOR, Examination, Features
from calibration.samples.findings import Finding, Severity
from exporters.errors import UserError

FEWEST = 5
"""Samples a set: two groups of five can be regrouped in 252 ways, enough for p = 0.01."""

SIGNIFICANT = 0.01
LARGE_EFFECT = 0.2
"""Energy effect size that is noted: of two normal distributions in one feature whose means lie one
standard deviation apart it is 0.19."""

REFUSED_EFFECT = 0.6
"""The same three standard deviations apart is 0.63: ranges of one say little about the other."""

SWAP_GAIN = 4.0
"""How many times smaller the energy distance must get when red and blue change places."""

_REGROUPINGS = 999
_TOLD = 3


def drift_findings(calibration: Examination, evaluation: Examination) -> Iterator[Finding]:
    """What tells ``calibration`` from ``evaluation``.

    Raises:
        UserError: the sets are of different models.
    """
    if calibration.summary_names != evaluation.summary_names:
        raise UserError(
            "calibration and evaluation samples have different inputs",
            fix="Make both for the same model",
        )
    fewest = min(len(calibration.names), len(evaluation.names))
    if fewest < FEWEST:
        yield Finding(
            "drift-untested",
            "note",
            f"{len(calibration.names)} calibration and {len(evaluation.names)} evaluation samples "
            f"cannot be compared, {FEWEST} of each are needed",
            "Give more samples",
        )
        return
    here, there, swapped = _standardized(calibration, evaluation)
    worst = (0.0, 1.0)
    for columns in _groups(calibration.summary_names):
        effect, p = energy_test(here[:, columns], there[:, columns])
        if p <= SIGNIFICANT / 2:  # there are two groups
            finding = _exchanged(here[:, columns], there[:, columns], swapped[:, columns])
            if finding:
                yield finding
                return
            worst = max(worst, (effect, p))
    if worst[0] >= LARGE_EFFECT:
        yield _drift(calibration, here, there, *worst)


def _groups(names: Sequence[str]) -> list[list[int]]:
    """Columns of colour and all others: what varies more would hide the rest."""
    color = [index for index, name in enumerate(names) if COLOR in name]
    others = [index for index in range(len(names)) if index not in color]
    return [group for group in (color, others) if group]


def _exchanged(here: Features, there: Features, swapped: Features) -> Finding | None:
    before, after = (_energy(_distances(group, there), len(group))[0] for group in (here, swapped))
    if np.array_equal(here, swapped) or before < SWAP_GAIN * max(after, 0.0):
        return None
    return Finding(
        "color-order",
        "error",
        "red and blue are exchanged in the calibration set or in the evaluation set: their energy "
        f"distance falls from {before:.2f} to {max(after, 0.0):.2f} when they change places in one",
        "Look at one image of each set and read both in the same colour order",
        numbers={"distance": before, "distance_exchanged": after},
    )


def _drift(
    calibration: Examination, here: Features, there: Features, effect: float, p: float
) -> Finding:
    sizes = here.mean(axis=0) - there.mean(axis=0)
    spread = np.sqrt((here.var(axis=0, ddof=1) + there.var(axis=0, ddof=1)) / 2)
    d = np.divide(sizes, spread, out=np.zeros_like(sizes), where=spread > 0)
    d = np.where((spread == 0) & (sizes != 0), np.copysign(99.0, sizes), d)
    strongest = np.argsort(-np.abs(d), kind="stable")[:_TOLD]
    told = ", ".join(f"{calibration.summary_names[i]} (d = {d[i]:+.1f})" for i in strongest)
    severity: Severity = "error" if effect >= REFUSED_EFFECT else "note"
    return Finding(
        "drift",
        severity,
        f"calibration and evaluation samples are distributed differently: energy effect size "
        f"{effect:.2f}, p = {p:.3f}, most in {told}",
        "Take both from the same places, times and cameras",
        numbers={"effect_size": effect, "p": p, "cohens_d": float(np.abs(d[strongest]).max())},
    )


def _standardized(
    calibration: Examination, evaluation: Examination
) -> tuple[Features, Features, Features]:
    """Summaries of both and those of the first with red and blue exchanged, by pooled spread."""
    pooled = np.concatenate([calibration.summaries, evaluation.summaries])
    spread = pooled.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    return calibration.summaries * scale, evaluation.summaries * scale, calibration.swapped * scale


def energy_test(here: Features, there: Features) -> tuple[float, float]:
    """Effect size 0 to 1 and permutation p-value of the energy distance of two groups of points."""
    distances = _distances(here, there)
    energy, between = _energy(distances, len(here))
    random = np.random.default_rng(0)
    farther = 0
    for _ in range(_REGROUPINGS):
        order = random.permutation(len(distances))
        farther += _energy(distances[np.ix_(order, order)], len(here))[0] >= energy
    effect = max(energy, 0.0) / (2 * between) if between > 0 else 0.0
    return effect, (farther + 1) / (_REGROUPINGS + 1)


def _distances(here: Features, there: Features) -> Features:
    points = np.concatenate([here, there])
    square = np.square(points).sum(axis=1)
    squares = square[:, None] + square[None, :] - 2 * points @ points.T
    distances: Features = np.sqrt(np.maximum(squares, 0))
    np.fill_diagonal(distances, 0)
    return distances


def _energy(distances: Features, first: int) -> tuple[float, float]:
    """Energy distance of the first ``first`` points to the rest, and their mean distance.

    Unbiased: no point is paired with itself, so that the distance of like groups is 0 on average.
    """
    rest = len(distances) - first
    between = float(distances[:first, first:].mean())
    within = float(distances[:first, :first].sum()) / (first * (first - 1))
    within += float(distances[first:, first:].sum()) / (rest * (rest - 1))
    return 2 * between - within, between
