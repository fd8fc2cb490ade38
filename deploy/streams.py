"""A session over a sample set, sample after sample, with the states that it leaves itself."""

from __future__ import annotations

from collections.abc import Mapping

from calibration.samples.base import Array, Sample, inputs_of
from calibration.samples.sequences import Sequences, brings_states
from deploy.evaluation import checked_feeds
from exporters.modelfile import ModelSpec
from runtimes.base import Session


class Runner:
    """Runs samples in the order of their set.

    Attributes:
        remembers: some sample was run with states that this session left behind itself.
    """

    def __init__(self, session: Session, spec: ModelSpec | None) -> None:
        self._session, self._spec = session, spec
        self._sequences = Sequences(spec, self._run) if spec is not None and spec.states else None
        self._name = ""
        self.remembers = False

    def __call__(self, name: str, group: str | None, sample: Sample) -> Mapping[str, Array]:
        """The outputs for the next sample; ``group`` as `calibration.samples.sequences` says it.

        Raises:
            UserError: it does not fit the model, or samples of its sequence are missing before it.
        """
        self._name = name
        if self._sequences is None:
            return self._run(inputs_of(sample))
        assert self._spec is not None  # only it tells of states
        self.remembers = self.remembers or not brings_states(sample, self._spec)
        return self._sequences.run(name, group, sample)

    def _run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._session.run(checked_feeds(self._name, feeds, self._session))
