"""Clocks held and given back, by scripts that record how they were called, over a real server."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy.boards.connection import Access
from deploy.boards.jobs import BoardCase, ClockPlan, EnergyPlan, Job
from deploy.boards.running import BoardRun, run_on_board
from exporters.errors import MissingRequirementError, UserError
from runtimes.timing import Plan
from tests.deploy.boards import fakesys
from tests.deploy.boards.sshd import Board
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16)}]
PLAN = Plan(warmup=1, min_runs=8, min_seconds=0.0, max_runs=8)
LONG = Plan(warmup=0, min_runs=20, min_seconds=60.0, max_runs=1_000_000)

_JETSON_CLOCKS = """#!/bin/sh
echo "jetson_clocks $1" >>{folder}/calls
case "$1" in --store) echo stored >"$2";; --restore) cat "$2" >>{folder}/calls;; esac
"""
_NVPMODEL = """#!/bin/sh
echo "nvpmodel $*" >>{folder}/calls
case "$1" in
  -q) printf 'NV Power Mode: MODE\\n%s\\n' "$(cat {folder}/mode)";;
  -m) [ "$2" = 7 ] || echo "$2" >{folder}/mode;;
esac
"""
_PYTHON = """#!/bin/sh
PATH={folder}:$PATH exec {python} "$@"
"""
_SUDO = """#!/bin/sh
shift
exec "$@"
"""


class Jetson:
    """A folder of programs that come first on the board's PATH, and what was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mode").write_text("2\n")
        for name, text in (
            ("jetson_clocks", _JETSON_CLOCKS),
            ("nvpmodel", _NVPMODEL),
            ("python", _PYTHON),
            ("sudo", _SUDO),
        ):
            (folder / name).write_text(text.format(folder=folder, python=sys.executable))
            (folder / name).chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        asked = path.read_text().splitlines() if path.exists() else []
        return [call for call in asked if call != "nvpmodel -q"]

    @property
    def python(self) -> str:
        return str(self.folder / "python")

    def wait_for(self, call: str) -> None:
        deadline = time.monotonic() + 20
        while call not in self.calls and time.monotonic() < deadline:
            time.sleep(0.05)
        assert call in self.calls


@pytest.fixture
def jetson(tmp_path: Path) -> Jetson:
    (tmp_path / "jetson").mkdir()
    return Jetson(tmp_path / "jetson")


@pytest.fixture
def case(tmp_path: Path) -> BoardCase:
    return BoardCase("fp32", models.save(models.conv(), tmp_path / "fp32.onnx"), "onnxruntime")


def run(board: Board, job: Job, python: str) -> BoardRun:
    access: Access = board.access(python=python)
    return run_on_board(board.address, job, access)


def when_measuring(board: Board, act: str) -> threading.Thread:
    """A thread that, once a job measures, kills its ``runner`` or removes it and its ``folder``."""

    def wait() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for pid in (board.cache / "jobs").glob("*/pid"):
                log = pid.with_name("log.jsonl")
                if log.exists() and '"measuring"' in log.read_text():
                    number = int(pid.read_text())
                    os.kill(number, signal.SIGKILL) if act == "runner" else os.killpg(
                        number, signal.SIGTERM
                    )
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_clocks_are_held_and_given_back(board: Board, case: BoardCase, jetson: Jetson) -> None:
    done = run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan()), jetson.python)
    assert jetson.calls == [
        "jetson_clocks --store",
        "jetson_clocks ",
        "jetson_clocks --restore",
        "stored",
    ]
    assert [event["held"] for event in done.of("clocks")] == [True, False]
    assert list((board.cache / "clocks").iterdir()) == []


def test_the_power_mode_goes_back_too(board: Board, case: BoardCase, jetson: Jetson) -> None:
    run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan(mode=0)), jetson.python)
    assert jetson.calls == [
        "jetson_clocks --store",
        "nvpmodel -m 0",
        "jetson_clocks ",
        "nvpmodel -m 2",
        "jetson_clocks --restore",
        "stored",
    ]
    assert (jetson.folder / "mode").read_text() == "2\n"


def test_a_mode_that_is_not_taken_is_an_error_and_all_goes_back(
    board: Board, case: BoardCase, jetson: Jetson
) -> None:
    with pytest.raises(UserError, match="did not change to mode 7"):
        run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan(mode=7)), jetson.python)
    assert jetson.calls[-3:] == ["nvpmodel -m 2", "jetson_clocks --restore", "stored"]


@pytest.mark.parametrize("act", ["runner", "group"])
def test_a_killed_runner_gives_its_clocks_back(
    board: Board, case: BoardCase, jetson: Jetson, act: str
) -> None:
    """By SIGKILL, and with its whole process group."""
    thread = when_measuring(board, act)
    with pytest.raises(MissingRequirementError, match="ended without a word"):
        run(board, Job([case], FEEDS, LONG, clocks=ClockPlan(mode=0)), jetson.python)
    thread.join()
    jetson.wait_for("stored")
    assert jetson.calls[-3:] == ["nvpmodel -m 2", "jetson_clocks --restore", "stored"]


def test_a_connection_that_dies_leaves_the_clocks_held_until_the_job_ends(
    board: Board, case: BoardCase, jetson: Jetson
) -> None:
    plan = Plan(warmup=1, min_runs=100, min_seconds=3.0, max_runs=1_000_000)

    def cut() -> None:
        jetson.wait_for("jetson_clocks ")
        time.sleep(1.0)
        board.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    done = run(board, Job([case], FEEDS, plan, clocks=ClockPlan()), jetson.python)
    thread.join()
    assert done.reconnects >= 1
    assert jetson.calls.count("jetson_clocks --restore") == 1
    order = [event["event"] for event in done.events if event["event"] in ("clocks", "measured")]
    assert order == ["clocks", "measured", "clocks"]


@pytest.mark.parametrize("clocks", [ClockPlan(), None])
def test_clocks_that_a_power_cut_left_are_given_back_by_the_next_job(
    board: Board, case: BoardCase, jetson: Jetson, clocks: ClockPlan | None
) -> None:
    """A record whose runner is gone, and no watchdog either."""
    records = board.cache / "clocks"
    records.mkdir(parents=True)
    stored = records / "999999.conf"
    stored.write_text("left\n")
    log = str(board.cache / "gone" / "log.jsonl")
    (records / "999999.json").write_text(f'{{"stored": "{stored}", "mode": 3, "log": "{log}"}}')
    done = run(board, Job([case], FEEDS, PLAN, clocks=clocks), jetson.python)
    assert jetson.calls[:3] == ["nvpmodel -m 3", "jetson_clocks --restore", "left"]
    assert ("jetson_clocks --store" in jetson.calls) == (clocks is not None)
    first = done.of("clocks")[0]
    assert (first["restored"], first["left_over"]) == (True, True)
    assert list(records.iterdir()) == []


def test_clocks_that_cannot_be_given_back_are_in_the_warnings(
    board: Board, case: BoardCase, jetson: Jetson
) -> None:
    from deploy.boards.conditions import warnings_of

    script = jetson.folder / "jetson_clocks"
    refusing = '#!/bin/sh\n[ "$1" != --restore ] || { echo no such file; exit 1; }\n'
    script.write_text(refusing)
    done = run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan()), jetson.python)
    warning = next(text for text in warnings_of(done) if "given back" in text)
    assert "--restore" in warning
    assert "no such file" in warning
    assert [path.suffix for path in (board.cache / "clocks").iterdir()] == [".json"]


def test_a_board_without_the_program_is_told_so(board: Board, case: BoardCase) -> None:
    with pytest.raises(UserError, match="the board has no jetson_clocks") as raised:
        run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan()), sys.executable)
    assert "--lock-clocks" in raised.value.fix


def test_a_refusal_is_told_with_what_allows_it(
    board: Board, case: BoardCase, jetson: Jetson
) -> None:
    (jetson.folder / "jetson_clocks").write_text("#!/bin/sh\necho a password is required; exit 1\n")
    with pytest.raises(UserError, match=r"--store .* failed: a password is required") as raised:
        run(board, Job([case], FEEDS, PLAN, clocks=ClockPlan()), jetson.python)
    assert "NOPASSWD" in raised.value.fix


def test_energy_and_conditions_of_a_job(board: Board, case: BoardCase, tmp_path: Path) -> None:
    """The runner and its sampler execute for real; their ``/sys`` is an Orin Nano's at 10 W."""
    from deploy.boards.benching import timings_of

    root = fakesys.orin_nano(tmp_path / "sys")
    energy = EnergyPlan(seconds=4.0, idle_s=4.0)
    job = Job([case, case], FEEDS, PLAN, energy=energy, root=str(root))
    bench = timings_of("nano", run(board, job, sys.executable), job)
    report = bench.energy
    assert report is not None
    assert (report.source, report.rails) == ("ina", ("VDD_IN",))
    for one in report.cases:
        assert one.frame_j is not None
        assert one.above_idle_j is not None
        assert one.frame_j.value == pytest.approx(10.0 * one.seconds / one.frames)
        assert one.above_idle_j.value == pytest.approx(0.0, abs=1e-9)
        assert one.frames > 100
        assert one.steady is False  # two seconds cannot tell
    conditions = bench.conditions
    assert conditions["clock_mhz"]["gpu"]["max"] == 612.0
    assert conditions["temperature_c"]["tj-thermal"]["median"] == 53.968
    assert conditions["before"]["limits_mhz"]["17000000.gpu"] == [306.0, 1020.0]
    assert conditions["samples"] > 20


def test_a_board_that_gets_steady_is_let_run_until_then(tmp_path: Path) -> None:
    from deploy.boards.onboard.blocks import WINDOW_S, Heat
    from deploy.boards.onboard.sysfs import Tree

    heat = Heat(Tree(str(fakesys.orin_nano(tmp_path))))
    sensor = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    steady_at = None
    for second in range(200):
        sensor.write_text(str(int(60_000 - 5_000 * 0.95**second)))
        if heat.steady(float(second)) and steady_at is None:
            steady_at = second
    # 5 K · 0.95^(t - 20) - 5 K · 0.95^t < 0.5 K from t = 57 on
    assert steady_at == pytest.approx(57, abs=2)
    assert steady_at > WINDOW_S
    assert Heat(Tree(str(tmp_path / "nothing"))).steady(0.0) is None
