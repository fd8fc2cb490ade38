"""A sample set whose states the float model fills in: what a network with a memory calibrates on.

The model runs through each sequence, sample after sample, and every sample is handed out with what
the ones before it left behind. What the model leaves behind is kept on disk, up to a limit, so a
second pass runs nothing::

    samples = rolled(open_samples("synthetic:2x20", file.spec), file)

INT8 is thereby calibrated on what the float model remembers. What becomes of an error along a
stream is asked by ``verify``, which lets each model keep its own states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from calibration.samples.base import Array, Samples, Source
from calibration.samples.kept import KeptArrays
from calibration.samples.sequences import Sequences, groups_of
from exporters.errors import UserError
from exporters.files import sha256_bytes
from exporters.modelfile import ModelFile, ModelSpec, canonical_json

Given = TypeVar("Given", bound=Samples)


def rolled(samples: Given, file: ModelFile) -> Given | RolledSamples:
    """``samples`` with the states of ``file`` in them; as they are for a model without any.

    Samples that were rolled before stay so: states of the float model serve all that come from it.
    """
    if isinstance(samples, RolledSamples) or not _rolls(file.spec):
        return samples
    return RolledSamples(samples, file)


def as_given(samples: Samples) -> Samples:
    """The set without the states that `rolled` fills in: what sensors gave."""
    return samples.given if isinstance(samples, RolledSamples) else samples


def _rolls(spec: ModelSpec | None) -> bool:
    """Language models, whose states grow, are run by ``deploy.language``."""
    if spec is None or not spec.states:
        return False
    ports = (spec.input(state.input) for state in spec.states)
    return all(isinstance(size, int) for port in ports for size in port.shape)


class RolledSamples:
    """Samples with states; those that bring their own keep them.

    Args:
        samples: sequences one after the other, each in order of time.
        file: the float model, run in ONNX Runtime.
        wanted: indices of those that are handed out; the others are only remembered.
    """

    def __init__(
        self, samples: Samples, file: ModelFile, wanted: Sequence[int] | None = None
    ) -> None:
        self._whole, self._file = samples, file
        self._wanted: tuple[int, ...] = tuple(range(len(samples)) if wanted is None else wanted)
        self._spec = file.require_spec()
        self._left = KeptArrays()

    @cached_property
    def given(self) -> Samples:
        """The same samples without states."""
        if len(self._wanted) == len(self._whole):
            return self._whole
        return self._source.subset(self._wanted)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._whole.names[index] for index in self._wanted)

    @property
    def groups(self) -> tuple[str, ...]:
        groups = getattr(self._whole, "groups", self._whole.names)
        return tuple(groups[index] for index in self._wanted)

    @property
    def sha256(self) -> str:
        """Of the samples, of the model that runs through them, and of the choice."""
        content = [self._whole.sha256, self._file.sha256, list(self._wanted)]
        return sha256_bytes(canonical_json(content).encode())

    def __len__(self) -> int:
        return len(self._wanted)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        wanted = set(self._wanted)
        last = max(wanted, default=-1)
        with _Model(self._file, self._left) as model:
            sequences = Sequences(self._spec, model.left_behind)
            members = zip(self._whole.names, groups_of(self._whole), self._whole, strict=True)
            for index, (name, group, sample) in enumerate(members):
                model.index = index
                feeds = sequences.feeds(name, group, sample)
                if index in wanted:
                    yield feeds
                if index == last:
                    return
                sequences.keep(model.left_behind(feeds))

    def sample(self, index: int) -> dict[str, Array]:
        """The sample at ``index``; its sequence is run through up to it."""
        return next(iter(self.subset([index])))

    def subset(self, indices: Sequence[int]) -> RolledSamples:
        """The samples at ``indices``, in the set's order, with what their sequences left behind."""
        wanted = sorted(self._wanted[index] for index in indices)
        groups = groups_of(self._whole)
        needed = [
            index
            for index, group in enumerate(groups)
            if any(index <= one and groups[one] == group for one in wanted)
        ]
        places = {index: place for place, index in enumerate(needed)}
        return RolledSamples(
            self._source.subset(needed), self._file, [places[index] for index in wanted]
        )

    @property
    def _source(self) -> Source:
        if not hasattr(self._whole, "subset"):
            raise UserError(
                "these samples cannot be chosen from", fix="Give a source, such as a folder"
            )
        source: Source = self._whole  # type: ignore[assignment]  # it was asked above
        return source


class _Model:
    """The float model, opened when the first sample is not remembered yet.

    Attributes:
        index: of the sample that is run.
    """

    def __init__(self, file: ModelFile, left: KeptArrays) -> None:
        self._file, self._left = file, left
        self._session: Any = None
        self.index = 0

    def __enter__(self) -> _Model:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None

    def left_behind(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs that are states, of the sample at ``index``."""
        kept = self._left.get(self.index)
        if kept is None:
            spec = self._file.require_spec()
            names = list(dict.fromkeys(state.output for state in spec.states))
            inputs = {item.name: feeds[item.name] for item in spec.inputs}
            kept = dict(zip(names, self._opened().run(names, inputs), strict=True))
            self._left.put(self.index, kept)
        return kept

    def _opened(self) -> Any:
        if self._session is None:
            import onnxruntime as ort

            from calibration.observing.sessions import lean_options

            providers = ["CPUExecutionProvider"]
            self._session = ort.InferenceSession(self._file.path, lean_options(), providers)
        return self._session
