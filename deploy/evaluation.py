"""Judging a data set in several processes, or on a Dask cluster.

Samples are read here and sent (`calibration.samples.mapping`); a worker opens both files once, runs
a sample through both with one thread and sends back what it found, a few kilobytes. Findings are
merged here in the order of the samples, so that the result is that of one process with one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.samples import map_samples
from calibration.samples.base import Array, Samples, inputs_of
from calibration.sensitivity.noise import Workers
from deploy.metrics.gathering import Finding, Gathering, Judge
from deploy.scoring import RunFile
from exporters.errors import UserError
from runtimes.base import Progress, Session
from runtimes.feeds import check_feeds

_NAME = "sample.name"  # under which a sample takes its name along


def judge_elsewhere(
    run: Gathering,
    samples: Samples,
    files: tuple[Path, Path],
    workers: Workers,
    progress: Progress | None = None,
) -> None:
    """Let ``workers`` run every sample through both files, and gather what they find.

    Args:
        files: the reference and the candidate.
        progress: called with the phase ``samples``.

    Raises:
        UserError: a sample does not fit or cannot be judged, or a metric has to see the whole set.
        MissingRequirementError: as ``map_samples``.
    """
    if run.needs_outputs is not None:
        raise UserError(
            f"--metric {run.needs_outputs} is a class that sees every output of the set, which "
            "several processes do not bring together",
            fix="Drop --jobs and --scheduler, or write it as a function of one sample",
        )
    far = workers.backend == "dask"
    reference, candidate = (RunFile(f, 1, f.read_bytes() if far else b"") for f in files)
    findings = map_samples(
        JudgeFiles(reference, candidate, run.judge),
        _Named(samples),
        workers.backend,
        jobs=workers.jobs,
        scheduler=workers.scheduler,
    )
    for index, (name, finding) in enumerate(zip(samples.names, findings, strict=True)):
        run.take(name, finding)
        if progress is not None:
            progress("samples", index + 1, len(samples))


@dataclass
class JudgeFiles:
    """What a judge finds of one sample in the outputs of two files; picklable."""

    reference: RunFile
    candidate: RunFile
    judge: Judge

    def __call__(self, sample: dict[str, Array]) -> Finding:
        sample = dict(sample)
        name = str(sample.pop(_NAME))
        feeds = checked_feeds(name, inputs_of(sample), self.reference.session)
        outputs = self.reference.session.run(feeds), self.candidate.session.run(feeds)
        return self.judge(name, *outputs, sample)


def checked_feeds(name: str, feeds: Mapping[str, Array], session: Session) -> Mapping[str, Array]:
    """``feeds`` if they fit the model and are finite; else an error that names the sample."""
    try:
        check_feeds(session.inputs, feeds)
    except UserError as error:
        raise UserError(f"sample {name!r}: {error.message}", fix=error.fix) from error
    for key, array in feeds.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise UserError(
                f"sample {name!r}: input {key!r} holds NaN or infinity",
                fix="Remove this sample, or mend what made it",
            )
    return feeds


class _Named:
    """The same samples, each with its name in it."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.names = samples.names

    @property
    def sha256(self) -> str:
        return self._samples.sha256

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for name, sample in zip(self.names, self._samples, strict=True):
            yield {**sample, _NAME: np.array(name)}
