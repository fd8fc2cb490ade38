"""Jobs on a board behind a real SSH server; ONNX Runtime is the board's runtime here."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.boards.address import Address
from deploy.boards.bundling import runner_name
from deploy.boards.connection import Access, Connection
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.running import BoardRun, run_on_board
from exporters.errors import EdgeportError, MissingRequirementError, UserError
from runtimes.ort import cpu
from runtimes.timing import Plan
from tests.deploy.boards.sshd import Board, make_key
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(3)]
PLAN = Plan(warmup=1, min_runs=8, min_seconds=0.0, max_runs=8)


@pytest.fixture
def cases(tmp_path: Path) -> list[BoardCase]:
    float_path = models.save(models.conv(), tmp_path / "fp32.onnx")
    int8_path = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    return [
        BoardCase(name, path, "onnxruntime", options={"threads": 1})
        for name, path in (("fp32", float_path), ("int8", int8_path))
    ]


def run(board: Board, job: Job, access: Access | None = None) -> BoardRun:
    return run_on_board(board.address, job, access or board.access())


def test_a_job_measures_all_cases_in_turns(board: Board, cases: list[BoardCase]) -> None:
    done = run(board, Job(cases, FEEDS, PLAN))
    runs = done.of("run")
    assert len(runs) == 16
    assert all(event["wall_ms"] > 0 for event in runs)
    rounds = [{e["case"] for e in runs if e["round"] == index} for index in range(8)]
    assert rounds == [{0, 1}] * 8
    assert len({tuple(e["case"] for e in runs if e["round"] == i) for i in range(8)}) == 2
    assert done.board["runtimes"]["numpy"] == np.__version__
    assert done.reconnects == 0


@pytest.mark.oracle
def test_outputs_are_those_of_a_session_here(board: Board, cases: list[BoardCase]) -> None:
    done = run(board, Job(cases, FEEDS, outputs=True))
    for case in cases:
        session = cpu().load(case.path, threads=1)
        assert len(done.outputs[case.name]) == len(FEEDS)
        for feeds, outputs in zip(FEEDS, done.outputs[case.name], strict=True):
            np.testing.assert_array_equal(outputs["y"], session.run(feeds)["y"])


def test_only_the_cache_is_left_and_files_lie_there_once(
    board: Board, cases: list[BoardCase]
) -> None:
    run(board, Job(cases, FEEDS, PLAN))
    assert list((board.cache / "jobs").iterdir()) == []
    files = {path.name: path.stat().st_mtime_ns for path in (board.cache / "files").iterdir()}
    assert len(files) == 4  # two models, the feeds, the runner
    assert runner_name() in files
    for name in files:
        content = (board.cache / "files" / name).read_bytes()
        assert name.split(".")[0] == hashlib.sha256(content).hexdigest()
    run(board, Job(cases, FEEDS, PLAN))
    again = {path.name: path.stat().st_mtime_ns for path in (board.cache / "files").iterdir()}
    assert again == files


def test_a_connection_cut_in_the_middle_loses_nothing(board: Board, cases: list[BoardCase]) -> None:
    """Cut three times while it measures; the job goes on and every round is there once."""
    cuts = 3
    plan = Plan(warmup=1, min_runs=100, min_seconds=4.0, max_runs=100_000)
    stopped = threading.Event()

    def cut() -> None:
        for _ in range(cuts):
            time.sleep(1.0)
            board.cut()
        stopped.set()

    thread = threading.Thread(target=cut)
    thread.start()
    done = run(board, Job(cases, FEEDS, plan, outputs=True))
    thread.join()
    assert stopped.is_set()
    assert done.reconnects >= 1
    measured = done.of("measured")
    assert len(measured) == 1
    rounds = [(event["round"], event["case"]) for event in done.of("run")]
    assert len(rounds) == len(set(rounds)) == 2 * measured[0]["rounds"]
    assert len(done.outputs["int8"]) == 3


def test_half_an_upload_is_continued(board: Board, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_000)
    remote = board.cache / "big"
    board.cache.mkdir()
    (board.cache / "big.partial").write_bytes(data[:2_000_000])
    written: list[int] = []

    async def upload() -> None:
        async with Connection(board.address, board.access()) as connection:
            await connection.upload(
                data, str(remote), len(data), lambda _phase, done, _total: written.append(done)
            )

    asyncio.run(upload())
    assert remote.read_bytes() == data
    assert written[0] > 2_000_000
    assert list(board.cache.iterdir()) == [remote]


def test_a_damaged_file_on_the_board_is_found_and_removed(
    board: Board, cases: list[BoardCase]
) -> None:
    run(board, Job(cases[:1], FEEDS, PLAN))
    model = next((board.cache / "files").glob("*.onnx"))
    model.write_bytes(b"x" * model.stat().st_size)
    with pytest.raises(UserError, match="was damaged on the board and is removed"):
        run(board, Job(cases[:1], FEEDS, PLAN))
    assert len(run(board, Job(cases[:1], FEEDS, PLAN)).of("run")) == 8


def test_two_runs_at_once_wait_for_each_other(board: Board, cases: list[BoardCase]) -> None:
    """Their measurements do not overlap, by the board's own clock.

    A third holds the board until both say that they wait: neither can have ended by then.
    """
    plan = Plan(warmup=0, min_runs=20, min_seconds=0.5, max_runs=100_000)
    results: list[BoardRun] = []

    def one() -> None:
        results.append(run(board, Job(cases, FEEDS, plan)))

    def waiting() -> int:
        journals = (board.cache / "jobs").rglob("*.jsonl")
        return sum('"waiting"' in journal.read_text() for journal in journals)

    threads = [threading.Thread(target=one) for _ in range(2)]
    board.cache.mkdir()
    with (board.cache / "measuring.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while waiting() < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    spans = sorted((r.of("measuring")[0]["at"], r.of("measured")[0]["at"]) for r in results)
    assert spans[0][1] <= spans[1][0]
    assert [len(result.of("waiting")) for result in results] == [1, 1]


def test_whoever_does_not_want_to_wait_is_told_who_measures(
    board: Board, cases: list[BoardCase]
) -> None:
    board.cache.mkdir()
    with (board.cache / "measuring.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4242\n")
        held.flush()
        with pytest.raises(UserError, match=r"another run \(process 4242\) has been measuring"):
            run(board, Job(cases, FEEDS, PLAN, wait_s=0.3))


def test_a_model_the_board_does_not_take_is_told_in_its_words(board: Board, tmp_path: Path) -> None:
    proto = models.conv()
    proto.graph.node[1].op_type = "Reluu"
    case = BoardCase("m", models.save(proto, tmp_path / "m.onnx"), "onnxruntime")
    with pytest.raises(UserError, match=r"ONNX Runtime .* of the board does not take it: .*Reluu"):
        run(board, Job([case], FEEDS, PLAN))
    assert list((board.cache / "jobs").iterdir()) == []


def test_tensorrt_without_a_device_is_told_so(board: Board, cases: list[BoardCase]) -> None:
    case = BoardCase("m", cases[0].path, "tensorrt")
    with pytest.raises(EdgeportError) as raised:
        run(board, Job([case], FEEDS, PLAN))
    # without TensorRT it lacks that; with TensorRT-RTX the engine is built, and nothing can run it
    words = ("no TensorRT for Python", "no CUDA runtime", "no CUDA device")
    assert any(word in raised.value.message for word in words), raised.value.message
    assert raised.value.fix


def test_a_wrong_host_key_is_refused(board: Board, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    key = (tmp_path / "other.pub").read_text()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{board.port} {key}")
    with pytest.raises(MissingRequirementError, match="host key that is not the known") as raised:
        run(board, Job([], []), board.access(known_hosts=known))
    assert "ssh-keygen -R 127.0.0.1" in raised.value.fix


def test_a_wrong_user_key_is_refused(board: Board, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    with pytest.raises(MissingRequirementError, match="refuses the user") as raised:
        run(board, Job([], []), board.access(identity=tmp_path / "stranger"))
    assert "ssh-copy-id" in raised.value.fix


def test_a_board_that_is_off_is_said_to_be(board: Board) -> None:
    address = Address("127.0.0.1", board.address.user, 1)
    with pytest.raises(MissingRequirementError, match=r"cannot reach ssh://.*@127\.0\.0\.1:1"):
        run_on_board(address, Job([], []), board.access())


def test_a_board_without_python_is_told_what_it_needs(board: Board) -> None:
    with pytest.raises(MissingRequirementError, match="cannot run the benchmark") as raised:
        run(board, Job([], []), board.access(python="/nonexistent/python3"))
    assert "3.8 or newer" in raised.value.fix


def test_a_runner_that_is_killed_is_noticed(board: Board, cases: list[BoardCase]) -> None:
    plan = Plan(warmup=0, min_runs=20, min_seconds=60.0, max_runs=1_000_000)

    def kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for pid in (board.cache / "jobs").glob("*/pid"):
                log = pid.with_name("log.jsonl")
                if log.exists() and '"measuring"' in log.read_text():
                    os.kill(int(pid.read_text()), signal.SIGKILL)
                    return
            time.sleep(0.1)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(MissingRequirementError, match="ended without a word"):
        run(board, Job(cases, FEEDS, plan))
    thread.join()
