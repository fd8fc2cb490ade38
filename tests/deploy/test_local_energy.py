"""Energy of this machine: its own sensors where it has some, and files as the kernel has them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from deploy import cli
from deploy.boards.jobs import EnergyPlan
from deploy.boards.onboard.nvml import Nvml
from deploy.boards.onboard.telemetry import COUNTERS
from deploy.local_energy import measure_energy
from runtimes.benchmark import Case
from tests.deploy.conftest import Refused
from tests.runtimes import models

WATTS = 7.0


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    feeds = [{"x": models.weights(1, 8, 16, 16)}]
    return [Case(name, path, feeds, threads=1) for name in ("first", "second")]


class Counter:
    """A RAPL counter that rises by ``WATTS``, in a tree like the kernel's."""

    def __init__(self, root: Path) -> None:
        self._zone = root / "sys/class/powercap/intel-rapl:0"
        self._zone.mkdir(parents=True)
        (self._zone / "name").write_text("package-0\n")
        (self._zone / "max_energy_range_uj").write_text("262143328850\n")
        self._going = True
        self._write()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _write(self) -> None:
        partial = self._zone / "next"
        partial.write_text(f"{int(1e6 * WATTS * time.monotonic())}\n")
        partial.replace(self._zone / "energy_uj")

    def _count(self) -> None:
        while self._going:
            self._write()
            time.sleep(0.005)

    def stop(self) -> None:
        self._going = False
        self._thread.join()


def test_joules_from_a_counter(cases: list[Case], tmp_path: Path) -> None:
    counter = Counter(tmp_path / "root")
    try:
        plan = EnergyPlan(seconds=1.5, idle_s=1.5)
        report = measure_energy(cases, plan, root=str(tmp_path / "root"))
    finally:
        counter.stop()
    if report.source != "rapl":
        pytest.skip(f"this machine's {report.source} goes before the tree of this test")
    assert report.meaning == "CPU packages"
    assert report.idle_w is not None
    for case in report.cases:
        assert case.frame_j is not None
        assert case.mean_w is not None
        assert 0 < case.frame_j.low <= case.frame_j.value <= case.frame_j.high
        assert case.above_idle_j is not None
        assert case.above_idle_j.low <= case.above_idle_j.high


def test_without_a_sensor_there_is_a_reason_and_no_zero(cases: list[Case], tmp_path: Path) -> None:
    report = measure_energy(cases, EnergyPlan(seconds=1.0, idle_s=1.0), root=str(tmp_path / "none"))
    if report.source:
        pytest.skip(f"{report.source} does not depend on the tree")
    assert "no power monitor: neither INA" in report.reason
    assert "Measure at the plug" in report.fix
    assert [case.frame_j for case in report.cases] == [None, None]
    assert all(case.sustained_hz > 0 for case in report.cases)


def test_the_command_says_where_the_joules_come_from_or_why_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("bench",))
    path = models.save(models.conv(), tmp_path / "m.onnx")
    arguments = ["bench", str(path), "--runs", "6", "--warmup", "1", "--energy", "1"]
    assert cli.run([*arguments, "--json"]) == 0
    energy = json.loads(capsys.readouterr().out)["energy"]
    assert (
        energy["reason"]
        or energy["source"] in COUNTERS
        or energy["source"] in ("ina", "nvidia-smi")
    )
    assert cli.run(arguments) == 0
    shown = capsys.readouterr().out
    assert "Energy, each file running alone" in shown
    assert "energy is not readable: " in shown or "W when idle" in shown


def test_loadgen_takes_no_energy(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("bench",))
    path = models.save(models.conv(), tmp_path / "m.onnx")
    line = refused(2, "bench", path, "--loadgen", "offline", "--energy", "2")
    assert "--energy was given, but LoadGen measures latencies alone" in line


def test_the_names_of_nvml_exist_and_a_machine_without_a_driver_counts_nothing() -> None:
    pynvml = pytest.importorskip("pynvml", reason="the extra energy is not installed")
    for name in (
        "nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetTotalEnergyConsumption", "NVMLError",
    ):  # fmt: skip
        assert hasattr(pynvml, name)
    counters = Nvml()
    joules = counters.read()
    assert all(value >= 0 for value in joules.values())
    counters.close()
    assert counters.read() == {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert joules == {}, "no driver, no counter"
