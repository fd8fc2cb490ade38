"""Energy counters of NVIDIA GPUs with a driver of their own, through nvidia-ml-py (``pynvml``).

NVML counts millijoules since the driver was loaded, from Volta on. A counter misses nothing between
two readings, which samples of the power do; so it goes before ``nvidia-smi``. Integrated GPUs of
Jetsons have no such counter. Evidence: name-checked.
"""

from __future__ import annotations

from typing import Any, Dict, List

_MILLI = 1e-3


class Nvml:
    """All GPUs of the machine that count; none where there is no driver or no nvidia-ml-py."""

    name = "nvml"

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: Dict[str, Any] = {}
        self._first: Dict[str, float] = {}
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            devices = [
                pynvml.nvmlDeviceGetHandleByIndex(index)
                for index in range(pynvml.nvmlDeviceGetCount())
            ]
        except pynvml.NVMLError:
            return
        self._nvml = pynvml
        for index, device in enumerate(devices):
            counted = self._counter(device)
            if counted:
                self._devices[f"gpu{index}"] = device
                self._first[f"gpu{index}"] = counted[0]

    def read(self) -> Dict[str, float]:
        """Joules by GPU since this object was made."""
        return {
            name: _MILLI * (counted - self._first[name])
            for name, device in self._devices.items()
            for counted in self._counter(device)
        }

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml, self._devices = None, {}

    def _counter(self, device: Any) -> List[float]:
        try:
            return [float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(device))]
        except self._nvml.NVMLError:  # older than Volta, or the driver is going away
            return []
