"""Samples that are made when it is their turn: read, decoded, resized or rendered.

What was made once is kept on disk, up to a limit, until the set is no longer used: a quantizer
passes over its samples twice (the doctor, then the ranges), and rendering a frame costs ten times
what reading it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from calibration.samples.base import Array
from calibration.samples.checks import checked
from calibration.samples.kept import KeptArrays
from exporters.files import sha256_bytes
from exporters.modelfile import ModelSpec, canonical_json


class LazySamples:
    """Samples by index.

    Args:
        names: one a sample.
        load: index to sample, with its labels.
        identity: index to what the sample's content depends on, as JSON; enters ``sha256``, and is
            asked for only where that is.
        spec: of the model that takes them.
        groups: scene or sequence of each sample; None where there are none.
    """

    def __init__(
        self,
        names: Sequence[str],
        load: Callable[[int], Mapping[str, Array]],
        identity: Callable[[int], Any],
        spec: ModelSpec,
        groups: Sequence[str] | None = None,
    ) -> None:
        self._names = tuple(names)
        self._load = load
        self._identity = identity
        self._spec = spec
        self._groups = self._names if groups is None else tuple(groups)
        self._kept = KeptArrays()

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def groups(self) -> tuple[str, ...]:
        return self._groups

    @property
    def sha256(self) -> str:
        """Hash of what determines the content: the samples' origin and how they become inputs."""
        content = {
            "samples": [self._identity(index) for index in range(len(self))],
            "inputs": [asdict(item) for item in self._spec.inputs],
            "geometry": self._spec.geometry,
        }
        return sha256_bytes(canonical_json(content).encode())

    def sample(self, index: int) -> dict[str, Array]:
        """Made now, and checked.

        Raises:
            SamplesRefusedError: it is not what the model takes.
        """
        return checked(self._load(index), self._names[index], self._spec)

    def subset(self, indices: Sequence[int]) -> LazySamples:
        """The samples at ``indices``, in that order."""
        chosen = list(indices)
        return LazySamples(
            [self._names[index] for index in chosen],
            lambda index: self._load(chosen[index]),
            lambda index: self._identity(chosen[index]),
            self._spec,
            [self._groups[index] for index in chosen],
        )

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for index in range(len(self)):
            sample = self._kept.get(index)
            if sample is None:
                sample = self.sample(index)
                self._kept.put(index, sample)
            yield sample
