"""What the board's sensors say, from recorded lines and from documented trees of ``/sys``."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path

import pytest

from deploy.boards import onboard
from deploy.boards.onboard.conditions import Conditions, busy_seconds, own_seconds
from deploy.boards.onboard.power import Ina, Rapl, total_rails
from deploy.boards.onboard.streams import Stream, parse_nvidia_smi
from deploy.boards.onboard.sysfs import Tree
from deploy.boards.onboard.tegrastats import parse_tegrastats
from deploy.boards.onboard.telemetry import Sources
from tests.deploy.boards import fakesys
from tests.deploy.boards.tegrastats_lines import LINES, ORIN_AGX_JP5


@pytest.mark.parametrize("board", LINES)
def test_a_line_of_tegrastats_is_read(board: str) -> None:
    line, expected = LINES[board]
    found = parse_tegrastats(line)
    total = total_rails(found["power_w"])
    assert total is not None
    assert sum(found["power_w"][rail] for rail in total[1]) == pytest.approx(expected["total_w"])
    clocks = {name: mhz for name, mhz in found["clock_mhz"].items() if mhz}
    assert clocks == expected["clocks"]
    if "tj" in expected:
        assert found["temperature_c"]["tj"] == expected["tj"]
    assert all(value > -50 for value in found.get("temperature_c", {}).values())
    assert not {"RAM", "SWAP", "NC", "CPU@"} & set(found["power_w"])


def test_a_sensor_without_power_is_no_temperature() -> None:
    assert "GPU" not in parse_tegrastats(ORIN_AGX_JP5)["temperature_c"]
    assert parse_tegrastats("Illegal option") == {}


def test_rails_that_nobody_described_are_not_added_up() -> None:
    assert total_rails({"VDD_A": 1.0, "VDD_B": 2.0}) is None
    assert total_rails({"VDD_IN": 1.0, "VDD_SOC": 2.0}) == ("input of the module", ("VDD_IN",))


def test_rails_of_an_orin_nano(tmp_path: Path) -> None:
    watts = Ina(Tree(str(fakesys.orin_nano(tmp_path)))).read()
    assert watts == pytest.approx({"VDD_IN": 10.0, "VDD_CPU_GPU_CV": 5.0, "VDD_SOC": 3.33})


def test_the_input_of_thor_has_a_monitor_without_a_label(tmp_path: Path) -> None:
    hwmon = "sys/class/hwmon/hwmon4"
    fakesys.write(tmp_path, {f"{hwmon}/name": "ina238", f"{hwmon}/power1_input": 28906000})
    assert Ina(Tree(str(tmp_path))).read() == pytest.approx({"VIN": 28.906})


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    meter = Rapl(Tree(str(fakesys.rapl(tmp_path, energy_uj=900, limit_uj=1000))))
    assert meter.read() == {"package-0@0": 0.0, "dram@0:1": 0.0}  # cores are in the package
    fakesys.rapl(tmp_path, energy_uj=100)
    assert meter.read()["package-0@0"] == pytest.approx(200e-6)
    fakesys.rapl(tmp_path, energy_uj=150)
    assert meter.read()["package-0@0"] == pytest.approx(250e-6)


def test_counters_that_may_not_be_read_are_said_to_be(tmp_path: Path) -> None:
    fakesys.rapl(tmp_path)
    for path in list(tmp_path.rglob("energy_uj")):
        path.unlink()
        path.mkdir()  # what even root cannot read
    power = Sources(str(tmp_path)).power
    assert "by root only" in power["reason"]
    assert "chmod a+r" in power["fix"]


def test_conditions_of_an_orin_nano(tmp_path: Path) -> None:
    conditions = Conditions(Tree(str(fakesys.orin_nano(tmp_path))))
    found = conditions.read()
    assert found["temperature_c"]["tj-thermal"] == 53.968
    assert "cv0-thermal" not in found["temperature_c"]
    assert found["clock_mhz"] == {"cpu": 1510.4, "gpu": 612.0}
    assert found["alerts"] == {"cpu-throttle-alert": 0, "gpu-throttle-alert": 0}
    assert found["trips"] == {"oc1": 0, "oc2": 0, "oc3": 0}
    assert found["busy_s"] == pytest.approx(155 / os.sysconf("SC_CLK_TCK"))
    limits = conditions.limits()
    assert limits["cpu0"] == [729.6, 1510.4]
    assert limits["17000000.gpu"] == [306.0, 1020.0]


def test_own_and_all_cpu_time_of_this_machine_are_read() -> None:
    """The real ``/proc``: this process has worked, and not more than everybody together."""
    own = own_seconds(Path("/proc/self/stat").read_text())
    busy = busy_seconds(Path("/proc/stat").read_text())
    assert own is not None
    assert own > 0
    assert busy is not None
    times = os.times()
    # clock ticks are 10 ms
    assert own == pytest.approx(times.user + times.system, abs=0.1)
    assert own_seconds("42 (a ) b) S 1 1 1 0 -1 4 1 0 0 0 300 100 0 0") == pytest.approx(
        400 / os.sysconf("SC_CLK_TCK")
    )


def test_a_gpu_with_its_own_driver() -> None:
    found = parse_nvidia_smi("71.25, 45, 1980, 2619, 0x0000000000000044")
    assert found["power_w"] == {"GPU": 71.25}
    assert found["clock_mhz"] == {"gpu": 1980.0, "memory": 2619.0}
    assert found["alerts"] == {"gpu": 1}  # 0x40: hardware thermal slowdown
    idle = parse_nvidia_smi("[N/A], 45, 1980, [N/A], 0x0000000000000001")
    assert "power_w" not in idle
    assert idle["alerts"] == {"gpu": 0}


def test_the_newest_line_of_a_program_counts() -> None:
    stream = Stream(["sh", "-c", "echo 1; echo 2; sleep 9"], lambda line: {"n": int(line)})
    deadline = time.monotonic() + 5
    while stream.newest()[1] != {"n": 2} and time.monotonic() < deadline:
        time.sleep(0.01)
    at, said = stream.newest()
    stream.close()
    assert said == {"n": 2}
    assert at is not None
    assert at <= time.monotonic()


def test_ina_goes_before_counters_and_nothing_is_said_in_words(tmp_path: Path) -> None:
    fakesys.rapl(tmp_path)
    assert Sources(str(tmp_path)).power["source"] == "rapl"
    fakesys.orin_nano(tmp_path)
    sources = Sources(str(tmp_path))
    assert sources.power["source"] == "ina"
    assert sources.power["total"] == ["VDD_IN"]
    assert sources.sample(os.getpid())["power_w"]["VDD_IN"] == pytest.approx(10.0)
    nothing = Sources(str(tmp_path / "empty")).power
    assert "no power monitor" in nothing["reason"]
    assert nothing["fix"]


def test_this_machine_can_be_sampled() -> None:
    sources = Sources()
    sample = sources.sample(os.getpid())
    sources.close()
    assert sample["clock_s"] <= time.monotonic()
    assert sample["busy_s"] > 0
    assert "source" in sources.power or sources.power["reason"]


def test_the_part_for_the_board_is_python_3_8() -> None:
    for path in Path(onboard.__file__).parent.glob("*.py"):
        ast.parse(path.read_text(), path.name, feature_version=(3, 8))
