"""Holm's step-down: several tests at once, and still at most 5 % wrong alarms among all of them.

The p-values in ascending order p(1) … p(m); the i-th is rejected while p(i) <= alpha / (m - i + 1),
and nothing after the first that is not (Holm, "A Simple Sequentially Rejective Multiple Test
Procedure", Scandinavian Journal of Statistics 6, 1979). It holds whatever the tests have to do with
each other, and rejects all that Bonferroni's alpha / m does.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected, in the order of ``p_values``.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [True, False, False, True]
    """
    return [adjusted <= alpha for adjusted in holm_adjusted(p_values)]


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """The level of the whole family at which each one would just be rejected.

    >>> [round(p, 3) for p in holm_adjusted([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
