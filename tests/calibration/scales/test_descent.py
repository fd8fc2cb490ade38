"""Coordinate descent over scales, with a trial that computes its fidelity by formula."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.scales.auto import Choice
from calibration.scales.descent import Descent, descend
from calibration.scales.methods import IntegerForm, Scale
from calibration.scales.trial import ALL, Trial

BEST = (1.0, 4.0, 0.25)


class Bowl:
    """Fidelity falls with the distance of every scale from its best one; all runs are counted.

    Attributes:
        contrary: samples, by index, that gain from what others lose by.
    """

    def __init__(self, samples: int = 8, contrary: tuple[int, ...] = ()) -> None:
        self.samples, self.contrary, self.runs = samples, contrary, 0

    def __len__(self) -> int:
        return self.samples

    def fidelities_db(self, scales: dict[int, Scale], which: slice = ALL) -> NDArray[np.float64]:
        seen = range(self.samples)[which]
        self.runs += len(seen)
        off = sum(abs(scales[i].scale - best) for i, best in enumerate(BEST))
        return np.array([off if sample in self.contrary else -off for sample in seen])


def choices(*scales: float) -> list[Choice]:
    form = IntegerForm.INT8_SYMMETRIC
    return [Choice(str(scale), Scale(scale, 0, form), {}) for scale in scales]


def assign(chosen: list[Choice]) -> Any:
    return {index: choice.scale for index, choice in enumerate(chosen)}


def search(bowl: Bowl, runs: int = 1000) -> Descent:
    start, others = choices(1.0, 1.0, 1.0), [choices(1.05, 4.0, 0.5), choices(2.0, 3.0, 0.25)]
    return descend(cast(Trial, bowl), start, others, assign, runs=runs)


def scales(found: Descent) -> tuple[float, ...]:
    return tuple(choice.scale.scale for choice in found.choices)


def test_the_best_proposal_of_every_group_is_found() -> None:
    bowl = Bowl()
    found = search(bowl)
    assert scales(found) == BEST
    assert found.changed == 2
    # half the samples for the start and for the three of five proposals that gain something, a
    # quarter for those that lose; the other half twice
    assert bowl.runs == 4 + 3 * 4 + 2 * 2 + 2 * 4


@pytest.mark.parametrize("tries", [0, 1, 2, 4])
def test_runs_are_what_was_allowed(tries: int) -> None:
    bowl = Bowl()
    found = search(bowl, runs=tries * 4 + 3)
    assert bowl.runs <= 4 + (tries + 1) * 4 + 2 * 4
    assert found.changed <= tries + 1


def test_those_that_differ_most_come_first() -> None:
    """By 4 the second and the third, by 2 the first; which is therefore left where it is."""
    found = search(Bowl(), runs=4 * 4)
    assert scales(found) == BEST


def test_a_gain_on_half_of_the_samples_is_luck() -> None:
    assert search(Bowl(contrary=(0, 2))).changed == 0
    assert search(Bowl(contrary=(0,))).changed == 2, "three of four"


def test_a_gain_that_other_samples_do_not_show_is_none() -> None:
    found = search(Bowl(contrary=(1, 3, 5)))
    assert found.changed == 0
    assert scales(found) == (1.0, 1.0, 1.0)


def test_few_samples_are_not_searched_with() -> None:
    bowl = Bowl(samples=7)
    assert search(bowl).changed == 0
    assert bowl.runs == 0
