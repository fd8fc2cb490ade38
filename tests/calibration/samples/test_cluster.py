"""Workers of a real Dask cluster are killed while samples are mapped: nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from calibration.samples import InMemorySamples, map_samples
from calibration.samples.cluster import ATTEMPTS
from exporters.errors import MissingRequirementError

distributed: Any = pytest.importorskip("distributed")

COUNT = 24


class SlowSums:
    """Sums what a sample holds and says in which process; some bytes make it worth sending."""

    def __init__(self) -> None:
        self.table = np.arange(1000.0)

    def __call__(self, sample: dict[str, Any]) -> tuple[float, int]:
        time.sleep(0.05)
        return float(self.table[sample["x"]].sum()), os.getpid()


def die(sample: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def numbers(count: int = COUNT) -> InMemorySamples:
    rng = np.random.default_rng(0)
    return InMemorySamples({"x": rng.integers(0, 1000, 100)} for _ in range(count))


@contextmanager
def processes(count: int) -> Iterator[str]:
    """A scheduler and workers that nobody starts again, each a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    lines = [["scheduler", "--host", "127.0.0.1", "--port", port]]
    lines += [["worker", address, "--no-nanny", "--nthreads", "1"]] * count
    running = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *more, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for what, *more in lines
    ]
    try:
        wait_for_workers(address, count)
        yield address
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()


def wait_for_workers(address: str, count: int) -> None:
    with distributed.Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def mapped(
    address: str, fn: Callable[..., tuple[float, int]], kill_after: tuple[int, ...]
) -> tuple[list[float], set[int]]:
    """Values in the order they came, and the killed: after so many results, who made the last."""
    values: list[float] = []
    killed = set()
    for value, process in map_samples(fn, numbers(), "dask", scheduler=address):
        values.append(value)
        if len(values) in kill_after and process not in killed:
            os.kill(process, signal.SIGKILL)
            killed.add(process)
    return values, killed


@pytest.mark.parametrize("kill_after", [(1,), (COUNT // 2,), (3, 9)])
def test_killed_workers_lose_nothing(kill_after: tuple[int, ...]) -> None:
    """Of three workers one or two are gone for good; order and values are those of one process."""
    expected = [value for value, _ in map_samples(SlowSums(), numbers())]
    with processes(3) as address:
        found, killed = mapped(address, SlowSums(), kill_after)
    assert found == expected
    assert len(killed) == len(kill_after)


def test_the_only_worker_may_die_where_it_is_started_again() -> None:
    """It had the function, too, which nobody else has."""
    expected = [value for value, _ in map_samples(SlowSums(), numbers())]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        found, killed = mapped(cluster.scheduler_address, SlowSums(), (2,))
    assert found == expected
    assert len(killed) == 1


def test_a_sample_that_kills_whoever_gets_it_ends_the_run() -> None:
    with processes(ATTEMPTS + 1) as address:
        with pytest.raises(MissingRequirementError, match=r"'sample-0': the Dask workers .* died"):
            list(map_samples(die, numbers(1), "dask", scheduler=address))
        wait_for_workers(address, 1)  # the last one was not sacrificed


def test_nobody_left_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.samples.cluster._PATIENCE_S", 0.5)
    with (
        processes(1) as address,
        pytest.raises(MissingRequirementError, match=r"at tcp://127.0.0.1:\d+ has no worker"),
    ):
        mapped(address, SlowSums(), (2,))
