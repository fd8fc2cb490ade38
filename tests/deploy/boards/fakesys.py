"""Trees of ``/sys`` and ``/proc`` as documented for boards that are not here.

Layouts: Linux Documentation/hwmon/ina3221.rst and ina238.rst, power/powercap/powercap.rst,
ABI/testing/sysfs-class-thermal; hwmon labels, ``soctherm_oc`` and cooling devices as in the Jetson
Linux Developer Guide, chapter Platform Power and Performance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RAPL = "sys/class/powercap/intel-rapl"


def write(root: Path, files: Mapping[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def orin_nano(root: Path, milliamps: int = 2000) -> Path:
    ina, oc = "sys/class/hwmon/hwmon1", "sys/class/hwmon/hwmon3"
    thermal = "sys/class/thermal"
    cpu, gpu = "sys/devices/system/cpu/cpu{}/cpufreq", "sys/class/devfreq/17000000.gpu"
    rails = {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 5000, "VDD_SOC": 5000}
    files: dict[str, object] = {f"{ina}/name": "ina3221", f"{oc}/name": "soctherm_oc"}
    for index, (label, millivolts) in enumerate(rails.items(), 1):
        files[f"{ina}/in{index}_label"] = label
        files[f"{ina}/in{index}_input"] = millivolts
        files[f"{ina}/curr{index}_input"] = milliamps // index
    files[f"{ina}/in7_label"] = "sum of shunt voltages"
    files |= {f"{oc}/oc{index}_event_cnt": 0 for index in (1, 2, 3)}
    zones = {
        "cpu-thermal": 53968,
        "gpu-thermal": 53343,
        "cv0-thermal": -256000,
        "tj-thermal": 53968,
    }
    for index, (kind, millidegrees) in enumerate(zones.items()):
        files[f"{thermal}/thermal_zone{index}/type"] = kind
        files[f"{thermal}/thermal_zone{index}/temp"] = millidegrees
    for index, kind in enumerate(("pwm-fan", "cpu-throttle-alert", "gpu-throttle-alert")):
        files[f"{thermal}/cooling_device{index}/type"] = kind
        files[f"{thermal}/cooling_device{index}/cur_state"] = 0
    for core, khz in enumerate((729600, 1510400)):
        files[cpu.format(core) + "/scaling_cur_freq"] = khz
        files[cpu.format(core) + "/scaling_min_freq"] = 729600
        files[cpu.format(core) + "/scaling_max_freq"] = 1510400
    files |= {f"{gpu}/cur_freq": 612000000, f"{gpu}/min_freq": 306000000}
    files[f"{gpu}/max_freq"] = 1020000000
    files["proc/stat"] = "cpu  100 0 50 9000 10 0 5 0 0 0\ncpu0 50 0 25 4500 5 0 2 0 0 0"
    return write(root, files)


def rapl(root: Path, *, energy_uj: int = 10, limit_uj: int = 1000) -> Path:
    zones = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "psys"}
    files: dict[str, object] = {}
    for zone, name in zones.items():
        files[f"{RAPL}:{zone}/name"] = name
        files[f"{RAPL}:{zone}/energy_uj"] = energy_uj
        files[f"{RAPL}:{zone}/max_energy_range_uj"] = limit_uj
    return write(root, files)
