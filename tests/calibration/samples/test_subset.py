"""A part of a set: its samples and no others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.samples.base import Array, InMemorySamples
from calibration.samples.lazy import LazySamples
from calibration.samples.subset import Subset, spread
from exporters.modelfile import InputSpec, ModelSpec, WeightsSource

SPEC = ModelSpec(
    "m", "", "", (InputSpec("x", "float32", (1,)),), outputs=(), weights=WeightsSource("checkpoint")
)


class Stream:
    """Samples that can only be run through."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"s{index}" for index in range(self._count))

    @property
    def sha256(self) -> str:
        return "0"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return ({"x": np.full(1, index, np.float32)} for index in range(self._count))


def numbers(samples: Subset) -> list[int]:
    return [int(sample["x"][0]) for sample in samples]


@given(size=st.integers(0, 40), count=st.integers(0, 50))
def test_spread_takes_as_many_as_asked_at_even_distances(size: int, count: int) -> None:
    part = spread(Stream(size), count)
    assert len(part) == min(size, count) == len(numbers(part)) == len(part.names)
    steps = {after - before for before, after in zip(part.indices, part.indices[1:], strict=False)}
    assert len(steps) <= 1
    assert numbers(part) == list(part.indices)


def test_other_samples_are_not_even_read() -> None:
    read: list[int] = []

    def load(index: int) -> dict[str, Array]:
        read.append(index)
        return {"x": np.full(1, index, np.float32)}

    samples = LazySamples([f"s{i}" for i in range(9)], load, str, SPEC)
    part = Subset(samples, (2, 5))
    assert numbers(part) == read == [2, 5]
    assert part.names == ("s2", "s5")


@pytest.mark.parametrize("whole", [Stream(9), InMemorySamples(list(Stream(9)))])
def test_it_does_not_matter_what_the_set_can_do(whole: Stream | InMemorySamples) -> None:
    first, second = Subset(whole, (1, 4)), Subset(whole, (0, 4, 8))
    assert numbers(first.joined(second)) == [0, 1, 4, 8]
    assert first.joined(second).sha256 == second.joined(first).sha256 != first.sha256
