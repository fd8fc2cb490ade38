"""Joules from samples, against power curves whose integral is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.boards.address import Address
from deploy.boards.conditions import conditions_of, other_cores, timing_notes, warnings_of
from deploy.boards.energy import (
    NotReadableError,
    counted,
    energies_of,
    frame_rate,
    integrate,
)
from deploy.boards.onboard import warming
from deploy.boards.running import BoardRun
from runtimes.timing import Plan, Timing, settled, warm_up

Event = dict[str, Any]
spans = st.tuples(st.floats(0.0, 5.0), st.floats(2.0, 20.0))


def sampled(end_s: float, period_s: float = 0.1, seed: int = 0) -> np.ndarray:
    """Times with jitter, from before 0 to beyond ``end_s``."""
    steps = np.random.default_rng(seed).uniform(0.5, 1.5, int(3 * end_s / period_s) + 40)
    times = -1.0 + np.cumsum(steps * period_s)
    return times[times < end_s + 1.0]


@given(spans, st.floats(0.0, 50.0), st.floats(-2.0, 2.0))
def test_a_straight_line_is_integrated_exactly(
    span: tuple[float, float], watts: float, slope: float
) -> None:
    start, end = span[0], sum(span)
    times = sampled(end)
    found = integrate(times, 200 + watts + slope * times, start, end)
    exact = (200 + watts) * (end - start) + slope * (end**2 - start**2) / 2
    assert found.joules == pytest.approx(exact, rel=1e-9)
    assert found.low <= exact * (1 + 1e-9)
    assert found.high >= exact * (1 - 1e-9)


@given(spans, st.floats(0.2, 3.0), st.integers(0, 9))
def test_lower_and_upper_sums_hold_what_rises_and_falls(
    span: tuple[float, float], tau: float, seed: int
) -> None:
    """A board that warms up, P = 10 + 20 (1 - exp(-t/tau)): monotone, so the bounds must hold."""
    start, end = span[0], sum(span)
    times = sampled(end, seed=seed)
    found = integrate(times, 30 - 20 * np.exp(-times / tau), start, end)
    exact = 30 * (end - start) + 20 * tau * (np.exp(-end / tau) - np.exp(-start / tau))
    # the two ends are interpolated, which a bend between their samples makes wrong by at most h²/8
    # times the curvature, over one step: 1e-2 J of more than 20
    assert found.low - 0.02 <= exact <= found.high + 0.02
    assert abs(found.joules - exact) < 0.1 * (found.high - found.low) + 0.05


def test_what_is_faster_than_the_samples_shows_as_their_error() -> None:
    times = np.arange(-1, 12, 0.1)
    rising = integrate(times, 20 + 3 * times, 0.05, 10.0)
    assert rising.sampling_j < 1e-9
    rough = integrate(times, 20 + 10 * np.sign(np.sin(2 * np.pi * times / 0.31)), 0.05, 10.0)
    exact = 199.0  # the square wave's mean is 20 W, and the ends hold less than 1.6 J more
    assert rough.sampling_j < 15
    assert abs(rough.joules - exact) < rough.sampling_j + 1.6
    assert rough.low < exact < rough.high


def test_the_standard_error_of_white_noise_is_right() -> None:
    """Over 400 runs with noise of 2 W the error of the sum has the spread that is told."""
    times = np.arange(-0.5, 10.5, 0.1)
    random = np.random.default_rng(0)
    found = [integrate(times, 30 + random.normal(0, 2, len(times)), 0.05, 9.95) for _ in range(400)]
    spread = np.std([energy.joules for energy in found])
    told = np.mean([energy.sampling_j for energy in found])
    # 400 runs know a standard deviation to 4 %; the told one is itself an estimate from 99 samples
    assert told == pytest.approx(spread, rel=0.15)


@given(st.integers(0, 99))
def test_a_counter_is_bounded_by_the_readings_around_the_ends(seed: int) -> None:
    times = sampled(12.0, seed=seed)
    power = np.random.default_rng(seed).uniform(1, 40, len(times))
    joules = np.concatenate([[0.0], np.cumsum(np.diff(times) * power[1:])])
    start, end = 1.2345, 10.4321
    found = counted(times, joules, start, end)
    exact = np.interp(end, times, joules) - np.interp(start, times, joules)
    assert found.low <= exact <= found.high
    assert found.joules == pytest.approx(exact)
    assert found.high - found.low <= 2 * 40 * 0.15 + 1e-9  # two steps of at most 0.15 s


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [(0.0, 0.4, "samples of the power in 0.4 s, 10 are needed"), (0.0, 99.0, "do not reach")],
)
def test_too_few_samples_are_no_energy(start: float, end: float, words: str) -> None:
    times = np.arange(-1, 12, 0.1)
    with pytest.raises(NotReadableError, match=words):
        integrate(times, np.ones_like(times), start, end)


def run_of(*events: Event) -> BoardRun:
    return BoardRun(Address("board"), {}, list(events))


def block(case: int | None, start: float, end: float, frames: int) -> Event:
    marks = [[at, frames * (at - start) / (end - start)] for at in np.linspace(start, end, 41)]
    values = {"case": case, "start_s": start, "end_s": end, "frames": frames, "marks": marks}
    return {"event": "block", "steady": None, **values}


def telemetry(watts: Any, end_s: float = 30.0) -> list[Event]:
    described = {"source": "ina", "meaning": "input of the module", "total": ["VDD_IN"]}
    samples = [
        {"event": "telemetry", "clock_s": at, "power_w": {"VDD_IN": watts(at), "VDD_SOC": 3.0}}
        for at in np.arange(-1, end_s + 1, 0.1)
    ]
    return [{"event": "telemetry_sources", "power": described}, *samples]


def test_joules_per_frame_of_two_cases() -> None:
    """5 W idle, 15 W at 100 frames/s, 25 W at 50 frames/s: 0.15 and 0.5 J a frame."""

    def watts(at: float) -> float:
        return 5.0 if at < 10 else 15.0 if at < 20 else 25.0

    blocks = [block(None, 0.05, 9.5, 0), block(0, 10.5, 19.5, 900), block(1, 20.5, 29.5, 450)]
    report = energies_of(run_of(*telemetry(watts), *blocks))
    assert report is not None
    assert report.idle_w is not None
    assert report.idle_w.value == pytest.approx(5.0)
    assert report.rails == ("VDD_IN",)  # not the rail that hangs on it
    fast, slow = report.cases
    assert fast.frame_j is not None
    assert fast.above_idle_j is not None
    assert slow.above_idle_j is not None
    assert fast.frame_j.value == pytest.approx(0.15)
    assert fast.above_idle_j.value == pytest.approx(0.10)
    assert slow.above_idle_j.value == pytest.approx(0.40)
    assert fast.hz_per_watt == pytest.approx(100 / 15)
    assert (fast.burst_hz, slow.sustained_hz) == pytest.approx((100.0, 50.0))


def test_without_a_source_there_are_rates_and_a_reason_and_no_zero() -> None:
    sources = {"event": "telemetry_sources", "power": {"reason": "no power monitor", "fix": "plug"}}
    report = energies_of(run_of(sources, block(None, 0, 5, 0), block(0, 5, 15, 200)))
    assert report is not None
    assert (report.reason, report.fix) == ("no power monitor", "plug")
    assert report.cases[0].frame_j is None
    assert report.cases[0].sustained_hz == pytest.approx(20.0)


def test_rates_of_a_board_that_slows_down() -> None:
    marks = [(0.0, 0), (10.0, 1000), (20.0, 1500)]
    assert frame_rate(marks, 0.0, 5.0) == pytest.approx(100.0)
    assert frame_rate(marks, 10.0, 20.0) == pytest.approx(50.0)


def conditions(**values: Any) -> BoardRun:
    """Twenty samples of a measurement; a list gives each its own value."""
    samples = []
    for index in range(20):
        at = index / 10
        sample: Event = {"event": "telemetry", "clock_s": at}
        for kind, names in values.items():
            sample[kind] = (
                {n: v[index] if isinstance(v, list) else v for n, v in names.items()}
                if isinstance(names, dict)
                else names[index]
            )
        samples.append(sample)
    marks = [{"event": "measuring", "clock_s": 0.0}, {"event": "measured", "clock_s": 2.0}]
    return run_of(*marks, *samples)


def test_a_clock_that_stays_is_not_warned_about() -> None:
    one_dip = [1300.0] * 9 + [306.0] + [1300.0] * 10
    steady = conditions(clock_mhz={"gpu": one_dip}, alerts={"gpu": 0}, trips={"oc3": 7})
    assert warnings_of(steady) == []
    assert conditions_of(steady)["clock_mhz"]["gpu"]["median"] == 1300.0


def test_clocks_throttling_and_other_load_are_warned_about() -> None:
    run = conditions(
        clock_mhz={"gpu": [1300.0] * 10 + [800.0] * 10},
        alerts={"gpu-throttle-alert": [0] * 15 + [1] * 5},
        trips={"oc3": [7] * 10 + [9] * 10},
        busy_s=[3.0 * i / 10 for i in range(20)],
        own_s=[1.0 * i / 10 for i in range(20)],
    )
    clock, alert, trip, load = warnings_of(run)
    assert "gpu clock moved between 800 and 1300 MHz" in clock
    assert "--lock-clocks" in clock
    assert "gpu-throttle-alert was on in 25 %" in alert
    assert "counter oc3 rose by 2" in trip
    assert "other processes used 2.0 cores" in load
    assert other_cores([]) is None


def test_power_mode_and_warm_up_are_warned_about() -> None:
    modes = [
        {"event": when, "limits": {}, "power_mode": mode}
        for when, mode in (("before", "MAXN"), ("after", "15W"))
    ]
    warm = {"event": "warm", "rounds": 200, "settled": False}
    changed, drifted = warnings_of(run_of(*modes, warm))
    assert "changed from MAXN to 15W" in changed
    assert "drifted after 200 rounds" in drifted


def test_times_say_what_limits_them() -> None:
    rough = Timing((1.0, 1.2, 0.9, 1.3))
    spans = {"compute_ms": 1.0, "enqueue_ms": 0.9, "h2d_ms": 1.1, "d2h_ms": 0.1}
    variation, enqueue, copies = timing_notes("m", rough, spans)
    assert "vary by 16.6 %" in variation
    assert "--cuda-graph" in enqueue
    assert "copying to the GPU takes 1.1 ms" in copies
    assert timing_notes("m", Timing((1.0, 1.01, 1.0)), {}) == []


@given(st.lists(st.lists(st.floats(0.9, 1.1), max_size=60), min_size=1, max_size=3))
def test_the_board_warms_up_by_our_rule(series: list[list[float]]) -> None:
    assert warming.settled(series) == settled(series)


def test_warming_up_ends_when_the_median_stands_still() -> None:
    times = [1 + 4 * 0.9**index for index in range(500)]
    rounds = warm_up([lambda index: times[index]], Plan(warmup=3, settle_s=60.0))
    assert times[rounds - 15] / times[rounds - 5] == pytest.approx(1.0, abs=0.05)
    assert 30 < rounds < 100
    assert warm_up([lambda index: times[index]], Plan(warmup=3)) == 3


def test_warming_up_has_an_end_on_a_machine_that_never_settles() -> None:
    clock = iter(range(1000))
    plan = Plan(warmup=3, settle_s=100.0)
    rounds = warm_up([lambda index: 1.05**index], plan, lambda: float(next(clock)))
    assert 90 < rounds < 110
