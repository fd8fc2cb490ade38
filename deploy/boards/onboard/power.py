"""Where a board says what it draws, and which of its rails make up the whole.

    ina       INA3221 and INA238 monitors of a Jetson, sysfs hwmon: mV x mA, or microwatts
    rapl      energy counters of Intel and AMD CPUs, sysfs powercap; they wrap around
    tegrastats, nvidia-smi      lines of a program, through ``streams``

Rails overlap: VDD_IN of an Orin NX feeds its other rails, so rails are only added up where it is
known which ones. A rail set that nobody has described gives no total, and then no energy.
Sources: Linux, Documentation/hwmon/ina3221.rst and power/powercap; NVIDIA's Jetson Linux Developer
Guide, chapter Platform Power and Performance, for the names of the rails.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from .sysfs import Tree

TOTALS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("input of the carrier board", ("VIN",)),  # Thor, INA238
    ("input of the module", ("VDD_IN",)),  # Orin NX and Nano, Xavier NX, TX2
    ("input of the module", ("POM_5V_IN",)),  # Nano, TX1
    ("rails of the module", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),  # AGX Orin
    ("rails of the module", ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")),  # Thor without VIN
    ("rails of the module", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),  # AGX Xavier
)
"""What the sum is, and the rails in it; the first row whose rails are all there counts."""

_MICRO = 1e-6


def total_rails(names: Mapping[str, object]) -> Optional[Tuple[str, Tuple[str, ...]]]:
    """What to add up of ``names``; None where it is not known."""
    for meaning, rails in TOTALS:
        if all(rail in names for rail in rails):
            return meaning, rails
    return None


class Ina:
    """Power monitors in hwmon: watts by rail."""

    name = "ina"

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._channels = list(self._find())

    def _find(self) -> List[Tuple[str, str, str]]:
        found = []
        for folder in self._tree.glob("/sys/class/hwmon/hwmon*"):
            chip = self._tree.text(folder + "/name") or ""
            if not chip.startswith("ina"):
                continue
            if self._tree.number(folder + "/power1_input") is not None:  # one channel
                # Thor's monitor of its input has no label
                unnamed = "VIN" if chip == "ina238" else ""
                label = self._tree.text(folder + "/in1_label") or unnamed
                found += [(label, folder, "power1")] if label else []
                continue
            for channel in ("1", "2", "3"):
                label = self._tree.text(f"{folder}/in{channel}_label") or ""
                if label and label != "NC":
                    found.append((label, folder, channel))
        return found

    def read(self) -> Dict[str, float]:
        """Watts now; a rail that does not answer is absent."""
        watts = {}
        for label, folder, channel in self._channels:
            if channel == "power1":
                microwatts = self._tree.number(folder + "/power1_input")
                if microwatts is not None:
                    watts[label] = _MICRO * microwatts
                continue
            millivolts = self._tree.number(f"{folder}/in{channel}_input")
            milliamps = self._tree.number(f"{folder}/curr{channel}_input")
            if millivolts is not None and milliamps is not None:
                watts[label] = _MICRO * millivolts * milliamps
        return watts


class Rapl:
    """Energy counters of packages and, where they are, of their memory: joules since the start.

    A package holds its cores and its graphics, not its memory; ``psys`` holds all of them and is
    left out.
    """

    name = "rapl"

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones: Dict[str, str] = {}
        self._ranges: Dict[str, float] = {}
        self._last: Dict[str, float] = {}
        self._joules: Dict[str, float] = {}
        self.refused = False
        for folder in tree.glob("/sys/class/powercap/*-rapl:*"):
            kind = tree.text(folder + "/name") or ""
            if not kind.startswith(("package", "dram")):
                continue
            counter = tree.number(folder + "/energy_uj")
            if counter is None:
                self.refused = self.refused or tree.refused(folder + "/energy_uj")
                continue
            name = f"{kind}@{folder.rsplit('/', 1)[1].split(':', 1)[1]}"
            self._zones[name] = folder
            self._ranges[name] = tree.number(folder + "/max_energy_range_uj") or 0.0
            self._last[name] = counter
            self._joules[name] = 0.0

    def read(self) -> Dict[str, float]:
        """Joules by zone since this object was made; ask more often than a counter wraps around."""
        for name, folder in self._zones.items():
            counter = self._tree.number(folder + "/energy_uj")
            if counter is None:
                continue
            step = counter - self._last[name]
            if step < 0:
                step += self._ranges[name]
            self._joules[name] += _MICRO * step
            self._last[name] = counter
        return dict(self._joules)
