"""A disk without room, and models whose weights lie in other files; nothing here is pretended.

``/dev/full`` is the kernel's own full disk: every write to it fails as on one. ``ulimit -f`` is how
the kernel limits files of a process.
"""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy.boards.connection import Connection
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.room import require_room
from deploy.boards.running import BoardRun, run_on_board
from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import ModelFile, save_model
from runtimes.ort import cpu
from runtimes.timing import Plan
from tests.deploy.boards.sshd import Board
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16)}]
PLAN = Plan(warmup=1, min_runs=6, min_seconds=0.0, max_runs=6)


def run(board: Board, job: Job, **changes: object) -> BoardRun:
    return run_on_board(board.address, job, board.access(**changes))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A model with its weights beside it."""
    path = tmp_path / "split.onnx"
    save_model(models.conv(), path, limit_bytes=100)
    assert ModelFile(path).data_files
    return path


def test_weights_in_a_second_file_come_along(board: Board, split: Path, tmp_path: Path) -> None:
    whole = models.save(models.conv(), tmp_path / "whole.onnx")
    cases = [BoardCase(p.stem, p, "onnxruntime", options={"threads": 1}) for p in (split, whole)]
    done = run(board, Job(cases, FEEDS, PLAN, outputs=True))
    expected = cpu().load(whole, threads=1).run(FEEDS[0])["y"]
    for case in cases:
        np.testing.assert_array_equal(done.outputs[case.name][0]["y"], expected)
    again = run(board, Job(cases, FEEDS, PLAN))
    assert len(again.of("run")) == 12


def test_a_second_file_that_is_gone_is_named_here(board: Board, split: Path) -> None:
    ModelFile(split).data_files[0].unlink()
    with pytest.raises(UserError, match="split"):
        run(board, Job([BoardCase("split", split, "onnxruntime")], FEEDS, PLAN))


def test_a_disk_that_fills_up_while_a_file_is_sent(board: Board, tmp_path: Path) -> None:
    remote = board.cache / "files" / "big.onnx"
    remote.parent.mkdir(parents=True)
    remote.with_name("big.onnx.partial").symlink_to("/dev/full")

    async def upload() -> None:
        async with Connection(board.address, board.access()) as connection:
            await connection.upload(b"x" * 1_000_000, str(remote), 1_000_000)

    with pytest.raises(MissingRequirementError, match=r"cannot write .*big\.onnx on ssh") as raised:
        asyncio.run(upload())
    assert "; df there: " in raised.value.message
    assert "%" in raised.value.message, "how full it is"
    assert "another disk with --board-cache" in raised.value.fix


def test_what_does_not_fit_is_not_begun(board: Board) -> None:
    board.cache.mkdir(parents=True)

    async def ask(size: int) -> None:
        async with Connection(board.address, board.access()) as connection:
            await require_room(connection, str(board.cache), size)

    asyncio.run(ask(1_000))
    with pytest.raises(
        MissingRequirementError, match=r"MiB free for .* the files need 9"
    ) as raised:
        asyncio.run(ask(10**18))
    assert "--board-cache" in raised.value.fix


def test_a_disk_that_fills_up_on_the_board_is_told(board: Board, tmp_path: Path) -> None:
    """The outputs are larger than the kernel lets the runner's files become."""
    python = tmp_path / "limited-python"
    python.write_text(f'#!/bin/sh\nulimit -f 100\nexec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    wide = models.model(
        [models.node("Add", ["x", "b"], ["y"])],
        [("x", models.FLOAT, [1])],
        [("y", models.FLOAT, [200_000])],
        {"b": np.zeros(200_000, np.float32)},
    )
    path = tmp_path / "wide.onnx"
    onnx.save(wide, path)
    job = Job(
        [BoardCase("wide", path, "onnxruntime")], [{"x": np.ones(1, np.float32)}], outputs=True
    )
    with pytest.raises(UserError, match=r"on the board: .*File too large") as raised:
        run(board, job, python=str(python))
    assert "df -h" in raised.value.fix
    assert list((board.cache / "jobs").iterdir()) == [], "the job's folder is gone"
