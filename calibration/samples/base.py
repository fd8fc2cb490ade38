"""What a sample is, and how samples are streamed.

A *sample* is one set of named input arrays, ready for the model's inputs; ground truth travels
in the same dict under keys that start with ``label.``. A sample set can be iterated any number
of times and holds one sample at a time in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Sample = Mapping[str, Array]

LABEL_PREFIX = "label."


class Samples(Protocol):
    """A re-iterable, sized, named stream of samples."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name a sample, for reports and errors."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the content: what a calibration is keyed by."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[dict[str, Array]]: ...


class Source(Samples, Protocol):
    """Samples that can be asked for one by one: what a set is chosen from."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Of each sample the scene or sequence that it is from; its own name where it has none."""
        ...

    def sample(self, index: int) -> dict[str, Array]: ...

    def subset(self, indices: Sequence[int]) -> Source:
        """The samples at ``indices``, in that order."""
        ...


def inputs_of(sample: Sample) -> dict[str, Array]:
    return {key: value for key, value in sample.items() if not key.startswith(LABEL_PREFIX)}


def labels_of(sample: Sample) -> dict[str, Array]:
    """Ground truth of a sample, without the prefix."""
    return {
        key.removeprefix(LABEL_PREFIX): value
        for key, value in sample.items()
        if key.startswith(LABEL_PREFIX)
    }


class InMemorySamples:
    """A sample set from arrays that are already there; for tests and small sets."""

    def __init__(self, samples: Iterable[Sample], names: Iterable[str] | None = None) -> None:
        self._samples = [dict(sample) for sample in samples]
        self._names = tuple(names or (f"sample-{i}" for i in range(len(self._samples))))

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def sha256(self) -> str:
        return hash_samples(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (dict(sample) for sample in self._samples)


def hash_samples(samples: Iterable[Sample]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays, in order."""
    import hashlib

    digest = hashlib.sha256()
    for sample in samples:
        for key in sorted(sample):
            value = np.ascontiguousarray(sample[key])
            digest.update(f"{key}|{value.dtype.str}|{value.shape}|".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def input_hash(sample: Sample) -> str:
    """SHA-256 of what a model sees of a sample: labels, name and file do not count.

    It is equal for two samples that calibrate alike, wherever they come from, and is how sets are
    held apart.
    """
    return hash_samples([inputs_of(sample)])
