"""Coordinate descent over scales, with a trial that computes its fidelity by formula."""

from __future__ import annotations

from typing import Any, cast

import pytest

from calibration.scales.auto import Choice
from calibration.scales.descent import LOOKED_AT, descend
from calibration.scales.methods import IntegerForm, Scale
from calibration.scales.trial import Trial

BEST = (1.0, 4.0, 0.25)


class Bowl:
    """Fidelity falls with the distance of every scale from its best one; all runs are counted.

    The last samples, which the search does not look at, may want something else.
    """

    def __init__(self, samples: int = 6, contrary: float = 0.0) -> None:
        self.samples, self.contrary, self.runs = samples, contrary, 0

    def __len__(self) -> int:
        return self.samples

    def fidelity_db(self, scales: dict[int, Scale], count: int | None = None) -> float:
        seen = range(self.samples)[:count]
        self.runs += len(seen)
        total = sum(self._of(scales, sample) for sample in seen)
        return total / len(seen)

    def _of(self, scales: dict[int, Scale], sample: int) -> float:
        sign = -self.contrary if sample >= LOOKED_AT and self.contrary else 1.0
        return -sign * sum(abs(scales[i].scale - best) for i, best in enumerate(BEST))


def choices(*scales: float) -> list[Choice]:
    return [Choice(str(scale), Scale(scale, 0, IntegerForm.INT8_SYMMETRIC), {}) for scale in scales]


def assign(chosen: list[Choice]) -> Any:
    return {index: choice.scale for index, choice in enumerate(chosen)}


def search(bowl: Bowl, runs: int = 1000) -> Any:
    start, others = choices(1.0, 1.0, 1.0), [choices(1.05, 4.0, 0.5), choices(2.0, 3.0, 0.25)]
    return descend(cast(Trial, bowl), start, others, assign, runs=runs)


def test_the_best_proposal_of_every_group_is_found() -> None:
    bowl = Bowl()
    found = search(bowl)
    assert tuple(choice.scale.scale for choice in found.choices) == BEST
    assert found.changed == 2
    assert found.fidelity_db == 0.0
    # 5 proposals that differ from the start by more than a tenth, the start, and twice all samples
    assert bowl.runs == 2 * 6 + LOOKED_AT + 5 * LOOKED_AT


@pytest.mark.parametrize("tries", [0, 1, 2, 4])
def test_runs_are_what_was_allowed(tries: int) -> None:
    bowl = Bowl()
    found = search(bowl, runs=2 * 6 + tries * LOOKED_AT)
    assert bowl.runs <= 2 * 6 + (tries + 1) * LOOKED_AT
    assert found.changed <= tries
    assert found.fidelity_db >= bowl.fidelity_db(assign(choices(1.0, 1.0, 1.0)))


def test_those_that_differ_most_come_first() -> None:
    """Two tries are enough for the second and third group; the first differs by less."""
    found = search(Bowl(), runs=2 * 6 + 2 * LOOKED_AT)
    assert found.choices[0].method == "1.0"
    assert found.changed >= 1


def test_a_gain_that_other_samples_do_not_show_is_none() -> None:
    bowl = Bowl(contrary=5.0)
    found = search(bowl)
    assert found.changed == 0
    assert [choice.scale.scale for choice in found.choices] == [1.0, 1.0, 1.0]
