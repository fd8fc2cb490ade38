"""Instances of two grids are the same thing where they overlap by more than half."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploy.instances import numbered_as


def test_the_same_thing_takes_its_number() -> None:
    reference = np.array([0, 7, 7, 7, 7, 3, 3, 0, 0])
    instances = np.array([0, 1, 1, 1, 0, 2, 2, 4, 4])
    # 1 is 7 (3 of 4 voxels), 2 is 3, and 4 is new
    assert numbered_as(reference, instances).tolist() == [0, 7, 7, 7, 0, 3, 3, 8, 8]


def test_a_half_is_not_enough() -> None:
    reference, instances = np.array([1, 1, 1, 1]), np.array([0, 0, 5, 5])
    assert numbered_as(reference, instances).tolist() == [0, 0, 2, 2]


def test_nothing_anywhere() -> None:
    nothing = np.zeros((2, 2, 1), np.int32)
    assert np.array_equal(numbered_as(nothing, nothing), nothing)


numbers = hnp.arrays(np.int32, 40, elements=st.integers(0, 5))


@given(numbers, numbers)
def test_only_names_change(reference: np.ndarray, instances: np.ndarray) -> None:
    """The same voxels belong together as before; a shared number is a majority of the union."""
    found = numbered_as(reference, instances)
    assert np.array_equal(found == 0, instances == 0)
    pairs = set(zip(instances.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    for old, new in pairs - {(0, 0)}:
        ours = instances == old
        best = max(
            (ours & (reference == k)).sum() / (ours | (reference == k)).sum() for k in range(1, 6)
        )
        if best > 0.5:
            theirs = reference == new
            assert (ours & theirs).sum() / (ours | theirs).sum() == best
        else:
            assert new > reference.max()
