"""Holm's step-down against its definition, Bonferroni, and the level of the family it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.metrics.holm import holm, holm_adjusted


def step_down(p_values: list[float], alpha: float) -> list[bool]:
    """The procedure as it was published, one hypothesis after the other."""
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


@given(st.lists(st.floats(0, 1), max_size=12))
def test_it_is_the_published_procedure_and_rejects_what_bonferroni_does(p: list[float]) -> None:
    found = holm(p, 0.05)
    # p = alpha / k on the line may round either way
    near = [any(abs(v * k - 0.05) < 1e-12 for k in range(1, len(p) + 1)) for v in p]
    if not any(near):
        assert found == step_down(p, 0.05)
        assert all(f for f, v in zip(found, p, strict=True) if v * len(p) <= 0.05)


def test_published_example() -> None:
    """Four tests at 5 %: 0.005 <= 0.05/4 and 0.01 <= 0.05/3, then 0.03 > 0.05/2 ends it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_family_is_wrong_at_most_as_often_as_promised() -> None:
    """17 true hypotheses, 4,000 times: at least one false alarm in 5 %, standard error 0.34 %."""
    random = np.random.default_rng(2)
    alarms = [any(holm(p)) for p in random.random((4000, 17)).tolist()]
    assert np.mean(alarms) <= 0.05 + 4 * 0.0034
    single = np.mean([min(p) <= 0.05 for p in random.random((4000, 17)).tolist()])
    assert single > 0.5, "without a correction more than half of all sets raise an alarm"
