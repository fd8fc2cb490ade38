"""``map_samples`` on every backend: same results, same errors; Dask with real worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.samples import InMemorySamples, map_samples
from calibration.samples.mapping import BACKENDS, IN_FLIGHT, backend_for
from exporters.errors import MissingRequirementError, UserError

WORKERS = 2


def squares(sample: dict[str, Any]) -> tuple[float, int]:
    return float(np.square(sample["x"]).sum()), os.getpid()


def refuse_the_fourth(sample: dict[str, Any]) -> float:
    if sample["x"][0] == 3:
        raise UserError("the fourth sample is bad", fix="Remove it")
    return float(sample["x"][0])


def die(sample: dict[str, Any]) -> None:
    os._exit(1)


def numbers(count: int = 12) -> InMemorySamples:
    return InMemorySamples({"x": np.full(3, i, np.float32)} for i in range(count))


class Watched(InMemorySamples):
    """Counts how many samples have been read."""

    read = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for sample in super().__iter__():
            self.read += 1
            yield sample


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A Dask scheduler with two worker processes."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster:
        yield cluster.scheduler_address


def options(backend: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    if backend == "dask":
        return {"scheduler": request.getfixturevalue("scheduler")}
    return {"jobs": WORKERS} if backend == "joblib" else {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_come_in_order_whoever_computes(
    backend: str, request: pytest.FixtureRequest
) -> None:
    found = list(map_samples(squares, numbers(), backend, **options(backend, request)))
    assert [value for value, _ in found] == [3.0 * i * i for i in range(12)]
    processes = {process for _, process in found}
    assert (processes == {os.getpid()}) == (backend == "serial")
    if backend == "dask":
        assert len(processes) == WORKERS


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_function_raises_is_raised_here(
    backend: str, request: pytest.FixtureRequest
) -> None:
    results = map_samples(refuse_the_fourth, numbers(), backend, **options(backend, request))
    with pytest.raises(UserError, match="the fourth sample is bad"):
        list(results)


def test_samples_are_not_all_in_flight_at_once(scheduler: str) -> None:
    samples = Watched(numbers(40))
    results = map_samples(squares, samples, "dask", scheduler=scheduler)
    next(results)
    assert samples.read <= IN_FLIGHT * WORKERS + 1
    assert len(list(results)) == 39


def test_a_dead_process_is_explained() -> None:
    with pytest.raises(MissingRequirementError, match="a worker process was killed"):
        list(map_samples(die, numbers(), "joblib", jobs=WORKERS))


def test_dead_workers_are_explained(tmp_path: Path) -> None:
    """A scheduler of its own, whose workers are gone when one was tried on each."""
    distributed = pytest.importorskip("distributed")
    from dask import config

    with (
        config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        results = map_samples(die, numbers(), "dask", scheduler=cluster.scheduler_address)
        with pytest.raises(MissingRequirementError, match=r"'sample-0': the Dask workers .* died"):
            list(results)


def test_a_module_that_workers_lack_is_named(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def f(sample):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(MissingRequirementError, match=r"lacks what this machine has.*only_here"):
        list(map_samples(only_here.f, numbers(), "dask", scheduler=scheduler))


def test_no_scheduler_at_that_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("calibration.samples.cluster._PATIENCE_S", 0.5)
    with pytest.raises(MissingRequirementError, match=r"answers at tcp://127\.0\.0\.1:9.*dask sch"):
        list(map_samples(squares, numbers(), "dask", scheduler="tcp://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("package", "backend", "more"),
    [("joblib", "joblib", {}), ("distributed", "dask", {"scheduler": "tcp://127.0.0.1:9"})],
)
def test_a_missing_package_brings_its_pip_line(
    package: str, backend: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingRequirementError, match=r"pip install 'edgeport\[cluster\]'"):
        list(map_samples(squares, numbers(), backend, **more))


@pytest.mark.parametrize(
    ("backend", "more", "words"),
    [
        ("seriel", {}, "unknown backend 'seriel'. Did you mean 'serial'"),
        ("dask", {}, "'dask' needs the address of a scheduler"),
        ("serial", {"scheduler": "tcp://h:1"}, "'serial' takes no scheduler"),
        ("serial", {"jobs": 2}, "'serial' takes no 2 jobs"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    backend: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        map_samples(squares, numbers(), backend, **more)


def test_options_say_which_backend() -> None:
    assert backend_for(None, None) == backend_for(1, None) == "serial"
    assert backend_for(4, None) == "joblib"
    assert backend_for(None, "tcp://h:1") == "dask"
    with pytest.raises(UserError, match="Give one of the two"):
        backend_for(4, "tcp://h:1")


def test_importing_the_module_needs_neither_joblib_nor_dask() -> None:
    code = (
        "import sys, calibration.samples.mapping; "
        "sys.exit(any(m in sys.modules for m in ('joblib', 'dask', 'distributed')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
