"""Boards as workers of a real Dask cluster: the same runner, the same results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.boards.benching import bench_on_boards
from deploy.boards.connection import Access
from deploy.boards.inventory import find_boards
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.reaching import run_on
from exporters.errors import MissingRequirementError, UserError
from runtimes.ort import cpu
from runtimes.timing import Plan
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(2)]
PLAN = Plan(warmup=1, min_runs=6, min_seconds=0.0, max_runs=6)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A scheduler with two workers that are boards, and one that is none."""
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    worker = {"cls": distributed.Nanny, "options": {"nthreads": 1}}
    boards = {
        name: {**worker, "options": {**worker["options"], "resources": {"board": 1}}}
        for name in ("orin-1", "orin-2")
    }
    with distributed.SpecCluster(
        scheduler={"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}},
        workers={**boards, "desk": worker},
    ) as cluster:
        yield cluster.scheduler_address


def access(folder: Path) -> Access:
    return Access(cache=str(folder / "cache"), python=sys.executable)


@pytest.fixture
def cases(tmp_path: Path) -> list[BoardCase]:
    float_path = models.save(models.conv(), tmp_path / "fp32.onnx")
    int8_path = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    return [
        BoardCase(name, path, "onnxruntime", options={"threads": 1})
        for name, path in (("fp32", float_path), ("int8", int8_path))
    ]


def test_workers_that_are_boards_are_measured(
    scheduler: str, tmp_path: Path, cases: list[BoardCase]
) -> None:
    boards = find_boards([scheduler], access(tmp_path))
    assert [board.name for board in boards] == ["orin-1", "orin-2"]
    results = bench_on_boards(boards, Job(cases, FEEDS, PLAN))
    assert [result.error for result in results] == [None, None]
    for result in results:
        assert [len(case.timing.latencies_ms) for case in result.cases] == [6, 6]
        assert result.cases[1].ratio_to_reference is not None
    assert list((tmp_path / "cache" / "jobs").iterdir()) == []
    assert len(list((tmp_path / "cache" / "files").iterdir())) == 4, "files lie there once"


def test_outputs_come_back_as_over_ssh(
    scheduler: str, tmp_path: Path, cases: list[BoardCase]
) -> None:
    board = find_boards([scheduler], access(tmp_path))[0]
    done = run_on(board, Job(cases[:1], FEEDS, outputs=True))
    session = cpu().load(cases[0].path, threads=1)
    for feeds, outputs in zip(FEEDS, done.outputs["fp32"], strict=True):
        np.testing.assert_array_equal(outputs["y"], session.run(feeds)["y"])


def test_what_a_board_says_is_raised_here(scheduler: str, tmp_path: Path) -> None:
    proto = models.conv()
    proto.graph.node[1].op_type = "Reluu"
    case = BoardCase("m", models.save(proto, tmp_path / "m.onnx"), "onnxruntime")
    board = find_boards([scheduler], access(tmp_path))[0]
    with pytest.raises(UserError, match=r"orin-1 .*of the board does not take it: .*Reluu"):
        run_on(board, Job([case], FEEDS, PLAN))


def test_a_board_without_python_is_told_what_it_needs(scheduler: str, tmp_path: Path) -> None:
    given = Access(cache=str(tmp_path / "cache"), python="/nonexistent/python3")
    board = find_boards([scheduler], given)[0]
    with pytest.raises(MissingRequirementError, match="cannot run the benchmark"):
        run_on(board, Job([], FEEDS, PLAN))


def test_one_table_from_the_command_line(
    scheduler: str,
    tmp_path: Path,
    cases: list[BoardCase],
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [str(case.path) for case in cases]
    where = ["--board", scheduler, "--board-python", sys.executable]
    cache = ["--board-cache", str(tmp_path / "cache")]
    arguments = [*where, *cache, "--runtime", "onnxruntime", "--runs", "6", "--json"]
    assert cli.run(["bench", *files, *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [board["name"] for board in result["boards"]] == ["orin-1", "orin-2"]


def test_a_cluster_without_boards_says_how_to_make_some() -> None:
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0"
        ) as cluster,
        pytest.raises(MissingRequirementError, match="none of the 1 workers") as raised,
    ):
        find_boards([cluster.scheduler_address])
    assert "--resources board=1" in raised.value.fix


def test_nobody_there_is_said() -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with pytest.raises(MissingRequirementError, match="no Dask scheduler answers"):
        find_boards(["tcp://127.0.0.1:9"])
