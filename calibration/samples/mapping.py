"""One function over every sample: here, on all cores, or on the machines of a Dask cluster.

Whatever does the work, results come in the order of the samples, what the function raises is
raised here, and a few samples per worker are in flight, never the whole set. Samples are read here
and sent, so workers need no access to the data; they need this version of edgeport. A worker of a
cluster that dies loses nothing (`calibration.samples.cluster`).

    dask scheduler                                     on one machine
    dask worker tcp://HOST:8786 --nthreads 1           on each, as many as it has cores
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from calibration.samples.base import Array, Samples
from calibration.samples.cluster import IN_FLIGHT, not_installed, on_cluster
from exporters.errors import MissingRequirementError, UserError, did_you_mean

Result = TypeVar("Result")

BACKENDS = ("serial", "joblib", "dask")


def map_samples(
    fn: Callable[[dict[str, Array]], Result],
    samples: Samples,
    backend: str = "serial",
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Result]:
    """``fn`` of every sample, in order, as they become ready.

    Args:
        fn: picklable for ``joblib`` and ``dask``, which run it in other processes.
        samples: read here, one at a time; the parallel backends hold `IN_FLIGHT` per worker.
        backend: ``serial``, ``joblib`` or ``dask``.
        jobs: processes of ``joblib``; one a core by default.
        scheduler: address of Dask's, ``tcp://HOST:8786``.

    Raises:
        UserError: unknown backend, or options that another one takes.
        MissingRequirementError: joblib or Dask is not installed, no scheduler or worker answers,
            workers died again and again of one sample, or they lack what ``fn`` needs.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}", fix=did_you_mean(backend, BACKENDS))
    if (scheduler is not None) != (backend == "dask"):
        needs = "needs the address of a scheduler" if backend == "dask" else "takes no scheduler"
        raise UserError(f"backend {backend!r} {needs}", fix="Give --scheduler tcp://HOST:8786")
    if jobs is not None and (backend != "joblib" or jobs < 1):
        raise UserError(f"backend {backend!r} takes no {jobs} jobs", fix="Drop --jobs")
    if backend == "serial":
        return map(fn, samples)
    if backend == "joblib":
        return _on_cores(fn, samples, jobs)
    assert scheduler is not None  # checked above
    return on_cluster(fn, samples, scheduler)


def backend_for(jobs: int | None, scheduler: str | None) -> str:
    """What ``--jobs`` and ``--scheduler`` mean.

    Raises:
        UserError: both are given.
    """
    if jobs is not None and scheduler is not None:
        raise UserError(
            "--jobs is for this machine, --scheduler for a cluster", fix="Give one of the two"
        )
    if scheduler is not None:
        return "dask"
    return "joblib" if jobs is not None and jobs != 1 else "serial"


def _on_cores(
    fn: Callable[[dict[str, Array]], Result], samples: Samples, jobs: int | None
) -> Iterator[Result]:
    try:
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError as error:
        raise not_installed("joblib") from error
    parallel = joblib.Parallel(
        n_jobs=jobs or -1, return_as="generator", pre_dispatch=f"{IN_FLIGHT} * n_jobs"
    )
    try:
        yield from parallel(joblib.delayed(fn)(sample) for sample in samples)
    except TerminatedWorkerError as error:
        raise MissingRequirementError(
            "a worker process was killed, as the system does when memory is short",
            fix="Give fewer --jobs",
        ) from error
