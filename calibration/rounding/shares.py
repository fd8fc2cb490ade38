"""A set of samples cut in two: most to learn from, some held back to judge by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calibration.samples.base import Array, Samples, hash_samples

_TINY = 1e-30

HELD_BACK = 4
"""One sample in so many is held back."""


@dataclass(frozen=True)
class Subset:
    """Some samples of ``whole``, in its order; nothing is copied."""

    whole: Samples
    indices: Sequence[int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.whole.names[index] for index in self.indices)

    @property
    def sha256(self) -> str:
        return hash_samples(self)

    def joined(self, other: Subset) -> Subset:
        """Samples of either, in the order of the whole."""
        return Subset(self.whole, sorted({*self.indices, *other.indices}))

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        wanted = set(self.indices)
        return (sample for index, sample in enumerate(self.whole) if index in wanted)


def learn_and_judge(samples: Samples, count: int) -> tuple[Subset, Subset]:
    """``count`` samples spread over the set, every fourth of them held back, at least one.

    A set of one sample is both.
    """
    count = min(count, len(samples))
    chosen = range(0, len(samples) // count * count, len(samples) // count)
    if count == 1:
        return Subset(samples, chosen), Subset(samples, chosen)
    back = chosen[1::HELD_BACK]
    return Subset(samples, [i for i in chosen if i not in back]), Subset(samples, back)


def decibels(energy: float, noise: float) -> float:
    """SQNR, within ±200 dB: a report has no word for infinity."""
    ratio = max(energy, _TINY) / max(noise, _TINY)
    return min(max(10.0 * math.log10(ratio), -200.0), 200.0)
