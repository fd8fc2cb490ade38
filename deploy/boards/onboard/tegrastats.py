"""Lines of NVIDIA's ``tegrastats``, whatever the board calls its rails.

    VDD_GPU_SOC 2412mW/2412mW   now/average, Orin; Thor adds the peak; before JetPack 5 without mW
    cpu@52.562C                 Thor: now/peak; -256 stands for a sensor that is switched off
    CPU [14%@2188,off,...]      or CPU [0%,off]@2601
    EMC_FREQ 3%@2133            GR3D_FREQ 63%@[621,621]; without a clock where root is needed

Fields and units as in NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility".
Evidence: lines of Orin, Xavier and Thor from public sources are read in the tests.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List

COMMAND = ("tegrastats", "--interval", "100")

SWITCHED_OFF_C = -50.0
"""A temperature below this is not one: the sensor's domain has no power."""

_END = r"(?=\s|$)"
_RAIL = re.compile(
    r"(?<!\S)([A-Za-z]\w*) (-?\d+)(?:mW(?:/-?\d+mW)*|/-?\d+)" + _END  # RAM 1/2MB ends in a B
)
_TEMPERATURE = re.compile(r"(?<!\S)(\w+)@(-?\d+(?:\.\d+)?)C(?:/-?[\d.]+C)?" + _END)
_CPU = re.compile(r"(?<!\S)CPU \[([^\]]*)\](?:@(\d+))?")
_LOAD_AT_CLOCK = r"(?<!\S){name} (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?"
_EMC = re.compile(_LOAD_AT_CLOCK.format(name="EMC_FREQ"))
_GPU = re.compile(_LOAD_AT_CLOCK.format(name="GR3D_FREQ"))
_UNUSED_RAIL = "NC"  # not connected


def parse_tegrastats(line: str) -> Dict[str, Any]:
    """One line as ``power_w``, ``temperature_c`` and ``clock_mhz`` by name, ``load_percent``.

    What the line lacks is absent; a core that is off has no clock.
    """
    found: Dict[str, Any] = {
        "power_w": {n: int(mw) / 1e3 for n, mw in _RAIL.findall(line) if n != _UNUSED_RAIL},
        "temperature_c": {
            name: float(value)
            for name, value in _TEMPERATURE.findall(line)
            if float(value) > SWITCHED_OFF_C
        },
        "clock_mhz": {},
        "load_percent": {},
    }
    clocks = _cpu_clocks(line)
    if clocks:
        found["clock_mhz"]["cpu"] = max(clocks)
    for name, pattern in (("emc", _EMC), ("gpu", _GPU)):
        match = pattern.search(line)
        if match and match.group(1):
            found["load_percent"][name] = float(match.group(1))
        if match and match.group(2):
            found["clock_mhz"][name] = max(float(mhz) for mhz in match.group(2).split(","))
    return {key: values for key, values in found.items() if values}


def _cpu_clocks(line: str) -> List[float]:
    match = _CPU.search(line)
    if match is None:
        return []
    if match.group(2):
        return [float(match.group(2))]
    return [float(mhz) for mhz in re.findall(r"@(\d+)", match.group(1))]
