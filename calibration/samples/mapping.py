"""One function over every sample: here, on all cores, or on the machines of a Dask cluster.

Whatever does the work, results come in the order of the samples, what the function raises is
raised here, and a few samples per worker are in flight, never the whole set. Samples are read here
and sent, so workers need no access to the data; they need this version of edgeport.

    dask scheduler                                     on one machine
    dask worker tcp://HOST:8786 --nthreads 1           on each, as many as it has cores
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

from calibration.samples.base import Array, Samples
from exporters.errors import MissingRequirementError, UserError, did_you_mean

Result = TypeVar("Result")

BACKENDS = ("serial", "joblib", "dask")
IN_FLIGHT = 2
"""Samples per worker: one it computes, one that is on its way."""

_PATIENCE_S = 10.0  # for a scheduler to answer, and for its first worker


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
        MissingRequirementError: joblib or Dask is not installed, no scheduler or worker answers, a
            worker died, or it lacks what ``fn`` needs.
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
    return _on_cluster(fn, samples, scheduler)


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
        raise _missing("joblib") from error
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


def _on_cluster(
    fn: Callable[[dict[str, Array]], Result], samples: Samples, scheduler: str
) -> Iterator[Result]:
    with connected(scheduler) as client:
        workers = sum(
            w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()
        )
        (shared,) = client.scatter([pickle.dumps(fn)], broadcast=True, hash=False)
        waiting: deque[tuple[str, Any]] = deque()
        for name, sample in zip(samples.names, samples, strict=True):
            if len(waiting) >= IN_FLIGHT * workers:
                yield _result(*waiting.popleft())
            # in a list: the keys of a bare dict would become the names of its futures
            (sent,) = client.scatter([sample], hash=False)
            waiting.append((name, client.submit(_call, shared, sent, pure=False)))
        while waiting:
            yield _result(*waiting.popleft())


def connected(scheduler: str) -> Any:
    """A client with at least one worker behind it, to be closed.

    Raises:
        MissingRequirementError: distributed is not installed, or nobody answers there.
    """
    try:
        import distributed
    except ImportError as error:
        raise _missing("dask.distributed") from error
    try:
        connect: Any = distributed.Client  # untyped
        client = connect(scheduler, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise MissingRequirementError(
            f"no Dask scheduler answers at {scheduler}", fix="Start one with: dask scheduler"
        ) from error
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError as error:
        client.close()
        raise MissingRequirementError(
            f"the Dask scheduler at {scheduler} has no worker",
            fix=f"Start some with: dask worker {scheduler} --nthreads 1",
        ) from error
    return client


def _call(pickled: bytes, sample: dict[str, Array]) -> Any:
    return _unpickled(pickled)(sample)


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Callable[[dict[str, Array]], Any]:
    """Once in a worker, so that what the function opens (a session) is opened once."""
    fn: Callable[[dict[str, Array]], Any] = pickle.loads(pickled)
    return fn


def _result(name: str, future: Any) -> Any:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except (KilledWorker, FutureCancelledError) as error:
        raise MissingRequirementError(
            f"sample {name!r}: the Dask workers that had it died",
            fix="Look at their logs: short memory is the usual reason",
        ) from error
    except (ModuleNotFoundError, AttributeError, pickle.UnpicklingError) as error:
        raise MissingRequirementError(
            f"sample {name!r}: a Dask worker lacks what this machine has: {error}",
            fix="Install the same edgeport, and your own modules, where the workers run",
        ) from error
    finally:
        future.release()


def _missing(package: str) -> MissingRequirementError:
    return MissingRequirementError(
        f"{package} is not installed", fix="pip install 'edgeport[cluster]'"
    )
