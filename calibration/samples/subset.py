"""Some samples of a set, of which nothing else is read where the set can be asked for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calibration.samples.base import Array, Samples, hash_samples
from calibration.samples.rolling import RolledSamples


@dataclass(frozen=True)
class Subset:
    """The samples of ``whole`` at ``indices``, which ascend; nothing is copied."""

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
        # a rolled set remembers the states of its sequences, a part of it would run them again
        if hasattr(self.whole, "subset") and not isinstance(self.whole, RolledSamples):
            return iter(self.whole.subset(self.indices))
        wanted = set(self.indices)
        return (sample for index, sample in enumerate(self.whole) if index in wanted)


def spread(samples: Samples, count: int) -> Subset:
    """``count`` samples at even distances, or all where there are no more."""
    count = min(count, len(samples))
    step = len(samples) // max(count, 1)
    return Subset(samples, range(0, step * count, step) if count else ())
