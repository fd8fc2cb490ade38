"""Scores and costs of candidate files, as a search for a mixed-precision model asks for them.

The reference's outputs on the validation set are computed once and kept in a temporary folder.
Candidates run here, on all cores, or on a Dask cluster; metrics are computed here, where a user's
module is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from calibration.samples import map_samples
from calibration.samples.base import Array, Samples, inputs_of
from calibration.samples.rolling import rolled
from calibration.sensitivity.budget import Measured
from calibration.sensitivity.noise import Workers
from deploy.metrics.gathering import Gathering
from deploy.metrics.pooled import PairedMetric
from deploy.sessions import open_session
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.base import Session
from runtimes.feeds import check_feeds

METRIC = "metric"
"""The name, in a budget, of the one that ``--metric`` names, or of the task's own."""

_TIMED_SAMPLES = 4


class ValidationScore:
    """Metrics of candidates on a validation set; use as a context, then call it with files.

    Args:
        samples: models with a memory start every step from the states of ``reference``.
        metric: as ``deploy.metrics.gathering`` takes it.
        threads: of sessions here; all cores by default.
    """

    def __init__(
        self,
        reference: ModelFile,
        samples: Samples,
        metric: str | None = None,
        *,
        workers: Workers | None = None,
        threads: int | None = None,
    ) -> None:
        self._reference = reference
        self._samples = rolled(samples, reference)
        self._metric = metric
        self._workers = workers or Workers()
        self._threads = threads
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._outputs: tuple[Any, ...] = ()

    def __enter__(self) -> ValidationScore:
        if len(self._samples) == 0:
            raise UserError("there are no samples to validate on", fix="Name others: --validate")
        Gathering(self._reference.spec, self._metric)  # an unknown metric, before the work
        self._folder = tempfile.TemporaryDirectory(prefix="edgeport-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def __call__(self, candidate: Path) -> dict[str, Measured]:
        """Every metric of ``candidate`` by the name that a budget gives it.

        A name of an output's metric, ``agreement`` or ``sqnr_db``, means the worst output;
        ``OUTPUT.agreement`` means that one.

        Raises:
            UserError: a sample does not fit, or the metric failed.
        """
        run = Gathering(self._reference.spec, self._metric)
        with open_session(self._reference.path, threads=1) as session:
            run.declare_outputs(session.outputs, session.outputs)
        results = zip(
            self._samples.names,
            self._samples,
            self._references(),
            self._run(candidate),
            strict=True,
        )
        for name, sample, reference, outputs in results:
            run.add(name, reference, outputs, sample)
        found = run.paired()
        if self._metric is not None and not any(m.is_task_metric for m in found):
            raise UserError(
                f"--metric {self._metric} found nothing to judge in the validation set",
                fix="Give samples with the ground truth that it needs",
            )
        return _by_name(found)

    def _references(self) -> Iterator[dict[str, Array]]:
        """The reference's outputs, sample by sample; computed on the first pass."""
        assert self._folder is not None, "use it as a context"
        folder = Path(self._folder.name)
        done = folder / "complete"
        if not done.exists():
            for index, outputs in enumerate(self._run(self._reference.path)):
                np.savez(folder / f"{index}.npz", **outputs)  # type: ignore[arg-type]
            done.touch()
        for index in range(len(self._samples)):
            with np.load(folder / f"{index}.npz") as arrays:
                yield {name: arrays[name] for name in arrays.files}

    def _run(self, path: Path) -> Iterator[dict[str, Array]]:
        workers = self._workers
        near = workers.backend == "serial"
        fn = RunFile(path, self._threads if near else 1)
        if workers.backend == "dask":
            fn.data = path.read_bytes()
        return map_samples(
            fn, self._samples, workers.backend, jobs=workers.jobs, scheduler=workers.scheduler
        )


@dataclass
class RunFile:
    """Outputs of a model file for one sample; picklable, and opened once in every process.

    Attributes:
        data: the file's bytes, for workers that do not see ``path``.
    """

    path: Path
    threads: int | None = None
    data: bytes = b""
    _session: Session | None = field(default=None, repr=False)

    def __call__(self, sample: dict[str, Array]) -> dict[str, Array]:
        feeds = inputs_of(sample)
        check_feeds(self.session.inputs, feeds)
        return self.session.run(feeds)

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = self._opened()
        return self._session

    def _opened(self) -> Session:
        from runtimes.registry import get, runtime_for

        if not self.data:
            return get(runtime_for(self.path)).load(self.path, threads=self.threads)
        with tempfile.TemporaryDirectory(prefix="edgeport-") as folder:
            path = Path(folder) / self.path.name
            path.write_bytes(self.data)
            return get(runtime_for(path)).load(path, threads=self.threads)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


@dataclass(frozen=True)
class CpuCosts:
    """Latency and profile of files in ONNX Runtime on this machine's CPU.

    Attributes:
        samples: whose first ones are run, in turn.
        runs: rounds; in each of them every file runs once.
    """

    samples: Samples
    threads: int | None = None
    runs: int = 20

    def latencies(self, paths: Sequence[Path]) -> list[float]:
        """Median latency of every file in ms, all files taking turns."""
        from runtimes.timing import Plan, interleave

        feeds = self._feeds()
        with _sessions(paths, self.threads) as sessions:
            runners = [_runner(session, feeds) for session in sessions]
            plan = Plan(warmup=2, min_runs=self.runs, min_seconds=0.0)
            timings = interleave(runners, plan)
        return [float(np.median(timing.latencies_ms)) for timing in timings]

    def profile(self, path: Path) -> list[tuple[str, str, float]]:
        """Kernel times: operator, tensor, ms."""
        from runtimes.profiling import profile

        found = profile(path, self._feeds(), threads=self.threads, runs=self.runs)
        return [(kernel.op_type, kernel.tensor, kernel.ms) for kernel in found]

    def _feeds(self) -> list[dict[str, Array]]:
        return [inputs_of(sample) for sample in islice(self.samples, _TIMED_SAMPLES)]


@contextmanager
def _sessions(paths: Sequence[Path], threads: int | None) -> Iterator[list[Session]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield [stack.enter_context(open_session(path, threads=threads)) for path in paths]


def _runner(session: Session, feeds: Sequence[dict[str, Array]]) -> Any:
    import time

    def run(index: int) -> float:
        started = time.perf_counter()
        session.run(feeds[index % len(feeds)])
        return time.perf_counter() - started

    return run


def _by_name(metrics: Sequence[PairedMetric]) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    for metric in metrics:
        measured = _measured(metric)
        if metric.is_task_metric:
            found.setdefault(METRIC, measured)
            found[metric.name] = measured
            continue
        found[f"{metric.output}.{metric.name}"] = measured
        worst = found.get(metric.name)
        if worst is None or measured.value < worst.value:
            found[metric.name] = measured
    return found


def _measured(metric: PairedMetric) -> Measured:
    """Value and interval; the interval of a difference is moved to where the value lies."""
    interval = metric.interval
    fp32 = float("nan") if metric.reference is None else metric.reference
    if interval is None:
        return Measured(metric.candidate, fp32)
    shift = metric.candidate - interval.value
    return Measured(
        metric.candidate, fp32, interval.low + shift, interval.high + shift, interval.detectable
    )
