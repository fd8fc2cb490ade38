"""Joules per frame from samples of a board's power, and how wrong they may be.

**Sampled power** P(t) is integrated by the trapezoid rule, with the block's ends interpolated.
The lower and upper sums, Σ min(Pᵢ, Pᵢ₊₁) Δt and Σ max(Pᵢ, Pᵢ₊₁) Δt, bound the integral where the
power is monotone between two samples. What is faster than the samples looks like noise in them: its
variance s² = Σ (Pᵢ₋₁ - 2Pᵢ + Pᵢ₊₁)² / 6(n - 2), which is blind to straight lines (von Neumann's
idea with second differences), gives ``sampling_j`` = T s / √n, one standard error.

**Counters** (RAPL, NVML) have no such error: only the ends lie between two readings, and the
readings around them are the bounds.

    frame          E / n                       all that the source measures, idle power included
    above idle     (E - P_idle T) / n          what the work adds
    frames/s/W     n / E
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.boards.onboard.telemetry import COUNTERS
from deploy.boards.running import BoardRun, Event
from runtimes.timing import Interval

Floats = NDArray[np.float64]

FEWEST_SAMPLES = 10
BURST_S, SUSTAINED_S = 5.0, 10.0


@dataclass(frozen=True)
class Energy:
    """Energy of an interval.

    Attributes:
        joules, low, high: value and bounds.
        sampling_j: standard error from what is faster than the samples; 0 for counters.
        samples: within the interval.
    """

    joules: float
    low: float
    high: float
    sampling_j: float
    samples: int
    seconds: float

    @property
    def watts(self) -> Interval:
        return Interval(*(j / self.seconds for j in (self.joules, self.low, self.high)))


@dataclass(frozen=True)
class CaseEnergy:
    """One case running alone.

    Attributes:
        burst_hz, sustained_hz: frames per second in the first and in the last seconds.
        steady: whether the temperature had stopped rising at the end; None without a sensor.
        frame_j, above_idle_j: joules per frame with bounds; None where power cannot be read.
        sampling_j: per frame, see ``Energy``.
        hz_per_watt: frames per second for each watt.
        reason: why there is no energy; empty where there is.
    """

    frames: int
    seconds: float
    burst_hz: float
    sustained_hz: float
    steady: bool | None
    frame_j: Interval | None = None
    above_idle_j: Interval | None = None
    sampling_j: float | None = None
    hz_per_watt: float | None = None
    mean_w: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class EnergyReport:
    """Energy of all cases of a board.

    Attributes:
        source: who measured, and ``meaning`` what is in it; empty where nobody does.
        idle_w: power while nothing ran.
        reason, fix: why power is not readable and what would change that.
    """

    cases: tuple[CaseEnergy, ...]
    source: str = ""
    meaning: str = ""
    rails: tuple[str, ...] = ()
    idle_w: Interval | None = None
    reason: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class NotReadableError(Exception):
    """No energy for an interval; the words say why."""


class PowerTrace:
    """What a board drew over time, from the ``telemetry`` of its log.

    Raises:
        NotReadableError: the board has no source of power.
    """

    def __init__(self, run: BoardRun) -> None:
        sources = run.of("telemetry_sources")
        self.described: Mapping[str, Any] = sources[0]["power"] if sources else {}
        if "source" not in self.described:
            raise NotReadableError(self.described.get("reason", "no telemetry was asked for"))
        total = self.described["total"]
        key = "energy_j" if self.described["source"] in COUNTERS else "power_w"
        self._counts = key == "energy_j"
        seen: dict[float, float] = {
            event["power_s"] if "power_s" in event else event["clock_s"]: sum(
                event[key][rail] for rail in total
            )
            for event in run.of("telemetry")
            if all(rail in event.get(key, {}) for rail in total)
        }
        self._times = np.array(sorted(seen), np.float64)
        self._values = np.array([seen[at] for at in sorted(seen)], np.float64)

    def over(self, start_s: float, end_s: float) -> Energy:
        """The energy between two readings of the board's monotonic clock."""
        if self._counts:
            return counted(self._times, self._values, start_s, end_s)
        return integrate(self._times, self._values, start_s, end_s)


def integrate(times_s: Floats, watts: Floats, start_s: float, end_s: float) -> Energy:
    """∫ P dt over [start, end] from samples (tᵢ, Pᵢ), tᵢ ascending, that reach beyond both ends.

    Raises:
        NotReadableError: too few samples, or an end that none of them reaches.
    """
    inside = _inside(times_s, start_s, end_s)
    times = np.concatenate([[start_s], times_s[inside], [end_s]])
    ends = np.interp([start_s, end_s], times_s, watts)
    values = np.concatenate([ends[:1], watts[inside], ends[1:]])
    steps = np.diff(times)
    joules = float(np.sum(steps * (values[1:] + values[:-1]) / 2))
    low = float(np.sum(steps * np.minimum(values[1:], values[:-1])))
    high = float(np.sum(steps * np.maximum(values[1:], values[:-1])))
    samples = int(inside.sum())
    noise = np.sqrt(np.mean(np.diff(watts[inside], 2) ** 2) / 6)
    sampling = float((end_s - start_s) * noise / np.sqrt(samples))
    return Energy(joules, low, high, sampling, samples, end_s - start_s)


def counted(times_s: Floats, joules: Floats, start_s: float, end_s: float) -> Energy:
    """The same from readings of a counter that only rises.

    Raises:
        NotReadableError: as ``integrate``.
    """
    inside = _inside(times_s, start_s, end_s)
    first, last = np.interp([start_s, end_s], times_s, joules)
    low = joules[inside][-1] - joules[inside][0]
    high = (
        joules[np.searchsorted(times_s, end_s)]
        - joules[np.searchsorted(times_s, start_s, side="right") - 1]
    )
    samples = int(inside.sum())
    return Energy(float(last - first), float(low), float(high), 0.0, samples, end_s - start_s)


def _inside(times_s: Floats, start_s: float, end_s: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (times_s > start_s) & (times_s < end_s)
    count = int(inside.sum())
    if count < FEWEST_SAMPLES:
        raise NotReadableError(
            f"{count} samples of the power in {end_s - start_s:.1f} s, {FEWEST_SAMPLES} are needed"
        )
    if times_s[0] > start_s or times_s[-1] < end_s:
        raise NotReadableError("the samples of the power do not reach from start to end")
    return inside


def energies_of(run: BoardRun) -> EnergyReport | None:
    """Energy of every case, from a run with ``Job.energy``; None from any other."""
    blocks = run.of("block")
    if not blocks:
        return None
    idle, *cases = blocks
    try:
        trace = PowerTrace(run)
        idle_energy = trace.over(idle["start_s"], idle["end_s"])
    except NotReadableError as error:
        described = (run.of("telemetry_sources") or [{"power": {}}])[0]["power"]
        rates = tuple(_rates(block, str(error)) for block in cases)
        return EnergyReport(rates, reason=str(error), fix=described.get("fix", ""))
    described = trace.described
    return EnergyReport(
        tuple(_energy(block, trace, idle_energy) for block in cases),
        described["source"],
        described["meaning"],
        tuple(described["total"]),
        idle_energy.watts,
    )


def _energy(block: Event, trace: PowerTrace, idle: Energy) -> CaseEnergy:
    try:
        energy = trace.over(block["start_s"], block["end_s"])
    except NotReadableError as error:
        return _rates(block, str(error))
    plain, frames = _rates(block), block["frames"]
    per_s = idle.watts
    above = (
        energy.joules - per_s.value * energy.seconds,
        energy.low - per_s.high * energy.seconds,
        energy.high - per_s.low * energy.seconds,
    )
    return CaseEnergy(
        frames,
        plain.seconds,
        plain.burst_hz,
        plain.sustained_hz,
        plain.steady,
        Interval(*(joules / frames for joules in (energy.joules, energy.low, energy.high))),
        Interval(*(joules / frames for joules in above)),
        energy.sampling_j / frames,
        frames / energy.joules,
        energy.watts.value,
    )


def _rates(block: Event, reason: str = "") -> CaseEnergy:
    """Frame rates, which need no power."""
    seconds = block["end_s"] - block["start_s"]
    burst, sustained = min(BURST_S, seconds / 3), min(SUSTAINED_S, seconds / 3)
    marks = [*block["marks"], (block["end_s"], block["frames"])]
    return CaseEnergy(
        block["frames"],
        seconds,
        frame_rate(marks, block["start_s"], block["start_s"] + burst),
        frame_rate(marks, block["end_s"] - sustained, block["end_s"]),
        block["steady"],
        reason=reason,
    )


def frame_rate(marks: Sequence[Sequence[float]], start_s: float, end_s: float) -> float:
    """Frames per second between two times, from (time, frames so far), interpolated."""
    times, frames = np.array(marks, np.float64).T
    first, last = np.interp([start_s, end_s], times, frames)
    return float((last - first) / (end_s - start_s))
