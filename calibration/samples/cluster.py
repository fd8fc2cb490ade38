"""One function over samples on the workers of a Dask cluster; a worker's death loses nothing.

Samples and function are scattered, not put into the task graph, which is no place for images. Dask
cannot compute anew what it was only given: a worker that dies takes along the samples sent to it
and the results that nobody had fetched. Samples are therefore held here until their result is, and
what was lost is sent again, to another worker. The function has no memory (`map_samples`), so the
results are those of a run without deaths. A sample that was lost `ATTEMPTS` times ends the run: it
is the likely reason.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from calibration.samples.base import Array, Samples
from exporters.errors import MissingRequirementError

Result = TypeVar("Result")

IN_FLIGHT = 2
"""Samples per worker: one it computes, one that is on its way."""
ATTEMPTS = 4
"""How often a sample is sent at most; Dask itself gives up after as many deaths."""

_PATIENCE_S = 10.0  # for a scheduler to answer, and for a worker to be there


def on_cluster(
    fn: Callable[[dict[str, Array]], Result], samples: Samples, scheduler: str
) -> Iterator[Result]:
    """``fn`` of every sample, in order, computed by the workers of ``scheduler``.

    Raises:
        MissingRequirementError: as ``map_samples``.
    """
    with connected(scheduler) as client:
        workers = sum(
            w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()
        )
        cluster = _Cluster(client, scheduler, fn)
        waiting: deque[_Call] = deque()
        for name, sample in zip(samples.names, samples, strict=True):
            if len(waiting) >= IN_FLIGHT * workers:
                yield cluster.result(waiting.popleft())
            waiting.append(cluster.call(name, sample))
        while waiting:
            yield cluster.result(waiting.popleft())


def connected(scheduler: str) -> Any:
    """A client with at least one worker behind it, to be closed.

    Raises:
        MissingRequirementError: distributed is not installed, or nobody answers there.
    """
    try:
        import distributed
    except ImportError as error:
        raise not_installed("dask.distributed") from error
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
        raise _no_worker(scheduler) from error
    return client


def not_installed(package: str) -> MissingRequirementError:
    return MissingRequirementError(
        f"{package} is not installed", fix="pip install 'edgeport[cluster]'"
    )


@dataclass
class _Call:
    """A sample on its way, kept until its result is here."""

    name: str
    sample: dict[str, Array]
    future: Any


class _Cluster:
    """A function at the workers; sent again with a sample where both were lost."""

    def __init__(self, client: Any, scheduler: str, fn: Callable[..., Any]) -> None:
        self._client = client
        self._scheduler = scheduler
        self._pickled = pickle.dumps(fn)
        self._shared: Any = None

    def call(self, name: str, sample: dict[str, Array]) -> _Call:
        if self._shared is None or self._shared.status != "finished":
            self._shared = self._sent(self._pickled, broadcast=True)
        future = self._client.submit(_call, self._shared, self._sent(sample), pure=False)
        return _Call(name, sample, future)

    def result(self, call: _Call) -> Any:
        """What the function returned for the call's sample, or raised.

        Raises:
            MissingRequirementError: workers died of it, or lack something.
        """
        from distributed.client import FutureCancelledError

        for attempt in range(ATTEMPTS):
            if attempt:
                call = self.call(call.name, call.sample)
            with suppress(FutureCancelledError):  # a worker died
                return _result(call)
        raise _dead(call)

    def _sent(self, data: Any, **options: Any) -> Any:
        """``data`` at a worker; tried again where that one has just died."""
        for _ in range(ATTEMPTS):
            with suppress(OSError):
                self._client.wait_for_workers(1, timeout=_PATIENCE_S)
                # in a list: the keys of a bare dict would become the names of its futures
                (sent,) = self._client.scatter([data], hash=False, **options)
                return sent
        raise _no_worker(self._scheduler)


def _result(call: _Call) -> Any:
    from distributed import KilledWorker

    try:
        return call.future.result()
    except KilledWorker as error:
        raise _dead(call) from error
    except (ModuleNotFoundError, AttributeError, pickle.UnpicklingError) as error:
        raise MissingRequirementError(
            f"sample {call.name!r}: a Dask worker lacks what this machine has: {error}",
            fix="Install the same edgeport, and your own modules, where the workers run",
        ) from error
    finally:
        call.future.release()


def _dead(call: _Call) -> MissingRequirementError:
    return MissingRequirementError(
        f"sample {call.name!r}: the Dask workers that had it died",
        fix="Look at their logs: short memory is the usual reason",
    )


def _no_worker(scheduler: str) -> MissingRequirementError:
    return MissingRequirementError(
        f"the Dask scheduler at {scheduler} has no worker",
        fix=f"Start some with: dask worker {scheduler} --nthreads 1",
    )


def _call(pickled: bytes, sample: dict[str, Array]) -> Any:
    return _unpickled(pickled)(sample)


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Callable[[dict[str, Array]], Any]:
    """Once in a worker, so that what the function opens (a session) is opened once."""
    fn: Callable[[dict[str, Array]], Any] = pickle.loads(pickled)
    return fn
