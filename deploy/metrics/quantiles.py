"""The two quantiles that small samples need, in numpy: Student's t and the exact binomial bound.

With ``t = sqrt(v) tan(a)`` the distribution function of Student's t with v degrees of freedom is

    F(t) = 1/2 + integral_0^a cos(u)^(v-1) du / B(1/2, v/2),      a in (-pi/2, pi/2)

an integral without tails. Clopper and Pearson (Biometrika 26, 1934): the lower bound of a share is
the p for which k hits of n or more have the probability ``1 - confidence``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_PIECES = 16
_STEPS = 200  # halvings of an interval; float64 ends after about 60


@lru_cache(maxsize=256)
def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution.

    >>> round(student_t(0.975, 1), 3), round(student_t(0.975, 9), 3)
    (12.706, 2.262)
    """
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -student_t(1 - probability, freedom)
    root = _root(lambda a: 0.5 + _from_middle(a, freedom) - probability, 0.0, math.pi / 2)
    return math.sqrt(freedom) * math.tan(root)


def student_tail(t: float, freedom: int) -> float:
    """Probability that Student's t exceeds ``t``.

    >>> round(student_tail(2.262157, 9), 5), round(student_tail(-2.262157, 9), 5)
    (0.025, 0.975)
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    above = max(0.0, 0.5 - _from_middle(angle, freedom))
    return above if t >= 0 else 1 - above


def _from_middle(angle: float, freedom: int) -> float:
    """``F(sqrt(v) tan(angle)) - 1/2``."""
    # log B(1/2, v/2)
    scale = math.lgamma(0.5) + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)
    edges = np.linspace(0.0, angle, _PIECES + 1)
    half = np.diff(edges)[:, None] / 2
    points = (edges[:-1, None] + half) + half * _NODES
    integral = float((half * _WEIGHTS * np.cos(points) ** (freedom - 1)).sum())
    return integral / math.exp(scale)


def share_bounds(hits: int, count: int, confidence: float) -> tuple[float, float]:
    """Two-sided bounds of a share of which ``hits`` of ``count`` samples were seen.

    >>> [round(bound, 4) for bound in share_bounds(100, 100, 0.95)]
    [0.9638, 1.0]
    """
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _root(lambda p: _at_least(hits, count, p) - tail, 0.0, 1.0)
    misses = count - hits
    high = 1.0 if misses == 0 else 1 - _root(lambda p: _at_least(misses, count, p) - tail, 0.0, 1.0)
    return low, high


def _at_least(hits: int, count: int, share: float) -> float:
    """Probability of ``hits`` or more among ``count``."""
    if share in (0.0, 1.0):
        return share
    numbers = np.arange(hits, count + 1)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    logs = log_factorials[count] - log_factorials[numbers] - log_factorials[count - numbers]
    logs = logs + numbers * math.log(share) + (count - numbers) * math.log1p(-share)
    return float(np.exp(logs).sum())


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing ``function`` crosses zero."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
