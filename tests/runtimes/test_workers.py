from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from exporters.errors import EdgeportError, MissingRequirementError, UserError
from runtimes.workers import Worker, WorkerDiedError, WorkerTimeoutError

HELPER = "tests.runtimes.worker_helper"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_a_worker_answers_and_reports_events() -> None:
    events: list[object] = []
    with Worker(HELPER, "helper") as worker:
        answer = worker.request({"do": "count", "to": 3}, lambda e: events.append(e["step"]))
        assert answer["sum"] == 6
        assert events == [1, 2, 3]
        assert worker.request({"do": "count", "to": 0})["sum"] == 0
    assert not alive(worker.pid)


@pytest.mark.parametrize("kind", [UserError, MissingRequirementError])
def test_errors_keep_class_words_and_fix(kind: type[EdgeportError]) -> None:
    with Worker(HELPER, "helper") as worker:
        with pytest.raises(kind) as error:
            worker.request({"do": "fail", "kind": kind.__name__})
        assert error.value.message == "it failed at node 'n'"
        assert error.value.fix == "Do that"
        assert worker.request({"do": "count", "to": 1})["sum"] == 1, "it serves on"


def test_a_bug_in_the_worker_comes_with_its_traceback() -> None:
    with (
        Worker(HELPER, "helper") as worker,
        pytest.raises(EdgeportError, match="ZeroDivisionError"),
    ):
        worker.request({"do": "bug"})


def test_what_libraries_print_is_no_answer() -> None:
    with Worker(HELPER, "helper") as worker:
        assert worker.request({"do": "print"})["printed"] is True


def test_death_is_told_with_signal_and_last_words() -> None:
    with Worker(HELPER, "TensorRT builder") as worker, pytest.raises(WorkerDiedError) as error:
        worker.request({"do": "abort"})
    assert "the TensorRT builder process was ended by SIGABRT" in str(error.value)
    assert "last words" in str(error.value)
    assert "terminate called" in str(error.value)


def test_a_kill_from_outside_points_at_memory() -> None:
    with Worker(HELPER, "helper") as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="ended by SIGKILL") as error:
            worker.request({"do": "count", "to": 1})
    assert "memory" in error.value.fix


def test_a_timeout_kills() -> None:
    with Worker(HELPER, "helper") as worker:
        with pytest.raises(WorkerTimeoutError, match=r"did not finish within 0\.2 s") as error:
            worker.request({"do": "sleep"}, timeout_s=0.2)
        assert not alive(worker.pid)
    assert "--timeout" in error.value.fix


def test_ctrl_c_in_the_parent_kills() -> None:
    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    with Worker(HELPER, "helper") as worker:
        with pytest.raises(KeyboardInterrupt):
            worker.request({"do": "count", "to": 1000}, interrupt)
        assert not alive(worker.pid)


def test_a_worker_ends_when_its_parent_dies() -> None:
    """Even when killed, so that nobody has had a chance to tell the child."""
    code = (
        "import sys, time; sys.path.insert(0, '.')\n"
        "from runtimes.workers import Worker\n"
        f"w = Worker({HELPER!r}, 'helper'); print(w.pid, flush=True)\n"
        "w.request({'do': 'sleep'})"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_gone(child)


def test_a_folder_called_runtimes_in_the_working_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("runtimes", "exporters"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('the foreign one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ours = "no TensorRT can be imported"
    with (
        Worker("runtimes.tensorrt.worker", "TensorRT builder") as worker,
        pytest.raises(MissingRequirementError, match=ours),
    ):
        worker.request({"do": "probe", "modules": ["no_such_module"]})
