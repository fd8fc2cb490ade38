"""What held while a board was measured, and what a reader must know before believing the numbers.

Clocks count as moved when the fastest core, the GPU or the memory left the highest clock of the
run by more than ``MOVED`` for more than ``MOVED_SHARE`` of the samples: a single sample between
two runs may catch an idle moment, as may the one sample of a governor's step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from deploy.boards.running import BoardRun, Event
from runtimes.timing import Timing, unsteady_note

MOVED = 0.05
MOVED_SHARE = 0.1
BUSY_CORES = 0.5
_HOLD = "hold them: --lock-clocks"


def conditions_of(run: BoardRun) -> dict[str, Any]:
    """Lowest, median and highest of everything that was sampled, as JSON types."""
    samples = _samples(run)
    kinds = ("clock_mhz", "temperature_c", "load_percent", "power_w")
    found: dict[str, Any] = {
        kind: {
            name: {"min": min(values), "median": median(values), "max": max(values)}
            for name, values in _series(samples, kind).items()
        }
        for kind in kinds
    }
    found = {kind: values for kind, values in found.items() if values}
    for when in ("before", "after"):
        for event in run.of(when):
            found[when] = {"limits_mhz": event["limits"], "power_mode": event["power_mode"]}
    others = other_cores(samples)
    if others is not None:
        found["other_cores"] = others
    for event in run.of("warm"):
        found["warm_up"] = {"rounds": event["rounds"], "settled": event["settled"]}
    for event in run.of("telemetry_sources"):
        found["power"] = event["power"]
    found["samples"] = len(samples)
    return found


def warnings_of(run: BoardRun) -> list[str]:
    """Sentences about clocks, throttling, power mode, other load and warm-up; best is none."""
    samples = _samples(run)
    found = [*_moved(samples), *_throttled(samples), *_changed(run)]
    others = other_cores(samples)
    if others is not None and others > BUSY_CORES:
        found.append(
            f"other processes used {others:.1f} cores while it was measured; stop them, or say so"
        )
    found += [
        f"latencies still drifted after {event['rounds']} rounds of warming up; "
        "repeat when the board is idle, or give --warmup more rounds"
        for event in run.of("warm")
        if event["settled"] is False
    ]
    found += [
        f"the clocks could not be given back: {'; '.join(event['failures'])}"
        for event in run.of("clocks")
        if event.get("restored") is False
    ]
    return found


def timing_notes(name: str, timing: Timing, spans: Mapping[str, float]) -> list[str]:
    """What the times of one case say about themselves; the thresholds are trtexec's."""
    unsteady = unsteady_note(name, timing)
    found = [unsteady] if unsteady else []
    compute = spans.get("compute_ms")
    if compute is None:
        return found
    if spans.get("enqueue_ms", 0.0) > 0.8 * compute:
        found.append(
            f"{name}: handing the work over takes {spans['enqueue_ms']:.3g} ms of "
            f"{compute:.3g} ms: the CPU is the limit; try --cuda-graph"
        )
    for span, direction in (("h2d_ms", "to"), ("d2h_ms", "from")):
        if spans.get(span, 0.0) >= compute:
            found.append(
                f"{name}: copying {direction} the GPU takes {spans[span]:.3g} ms, no less than "
                f"computing ({compute:.3g} ms): smaller inputs or outputs would pay"
            )
    return found


def other_cores(samples: Sequence[Event]) -> float | None:
    """Cores that were busy with something else, on average."""
    told = [s for s in samples if "busy_s" in s and "own_s" in s]
    if len(told) < 2:
        return None
    first, last = told[0], told[-1]
    seconds = last["clock_s"] - first["clock_s"]
    busy, own = (last[key] - first[key] for key in ("busy_s", "own_s"))
    return float(max(0.0, (busy - own) / seconds)) if seconds > 0 else None


def _samples(run: BoardRun) -> list[Event]:
    """Telemetry from the first measured run to the end of the last block."""
    starts = [event["clock_s"] for event in run.of("measuring")]
    ends = [event["clock_s"] for event in run.of("measured")]
    blocks = [block for block in run.of("block") if block["case"] is not None]
    spans = [*zip(starts, ends, strict=False), *((b["start_s"], b["end_s"]) for b in blocks)]
    return [
        event
        for event in run.of("telemetry")
        if any(start <= event["clock_s"] <= end for start, end in spans)
    ]


def _series(samples: Sequence[Event], kind: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.get(kind, {}).items():
            found.setdefault(name, []).append(value)
    return found


def _moved(samples: Sequence[Event]) -> list[str]:
    found = []
    for name, mhz in _series(samples, "clock_mhz").items():
        below = sum(value < (1 - MOVED) * max(mhz) for value in mhz)
        if below > max(1, MOVED_SHARE * len(mhz)):
            found.append(
                f"the {name} clock moved between {min(mhz):.0f} and {max(mhz):.0f} MHz during the "
                f"measurement; {_HOLD}"
            )
    return found


def _throttled(samples: Sequence[Event]) -> list[str]:
    found = []
    for name, states in _series(samples, "alerts").items():
        share = sum(state > 0 for state in states) / len(states)
        if share:
            found.append(
                f"throttled: {name} was on in {100 * share:.0f} % of the samples; cool the board, "
                "or choose a lower power mode"
            )
    for name, counts in _series(samples, "trips").items():
        if counts[-1] > counts[0]:
            found.append(
                f"throttled: the hardware slowed itself down, counter {name} rose by "
                f"{counts[-1] - counts[0]:.0f}; look at its supply, or choose a lower power mode"
            )
    return found


def _changed(run: BoardRun) -> list[str]:
    modes = [event["power_mode"] for when in ("before", "after") for event in run.of(when)]
    if len(set(modes)) > 1:
        return [f"the power mode changed from {modes[0]} to {modes[-1]} during the measurement"]
    return []
