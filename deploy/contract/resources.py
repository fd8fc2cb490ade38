"""Latency, speed-up, energy, memory and sizes against their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibration.sensitivity.budget import SPEEDUP
from deploy.contract.evidence import FileEvidence
from deploy.contract.terms import ENGINE_MB, FRAME_J, MEMORY_MIB, MODEL_MB, Term
from deploy.verdict import Check, judge, judge_bounds

_NOT_TIMED = "it was not timed"


def judge_resource(term: Term, file: FileEvidence) -> Check:
    """One resource of one file; no evidence where it was not measured."""
    if term.percentile is not None:
        return _percentile(term, term.percentile, file)
    return {
        SPEEDUP: _speedup,
        FRAME_J: _energy,
        ENGINE_MB: _engine,
        MODEL_MB: _model,
        MEMORY_MIB: _memory,
    }[term.name](term, file)


def _percentile(term: Term, percent: float, file: FileEvidence) -> Check:
    name = f"p{percent:g}"
    if file.latency is None:
        return _judged(term, name, None, "ms", _NOT_TIMED)
    found = next((p for p in file.latency["percentiles"] if p["p"] == percent), None)
    if found is None:
        return _judged(term, name, None, "ms", "the benchmark gives no such percentile")
    if found.get("low_ms") is None or found.get("high_ms") is None:
        return _judged(term, name, None, "ms", found.get("reason") or "it has no interval")
    ends = found["value_ms"], found["low_ms"], found["high_ms"]
    runs = len(file.latency["latencies_ms"])
    return _bounded(term, name, ends, "ms", f"{runs} runs")


def _speedup(term: Term, file: FileEvidence) -> Check:
    if file.latency is None:
        return _judged(term, "speed-up", None, "", _NOT_TIMED)
    ratio = file.latency["ratio_to_reference"]
    if ratio is None or ratio["low"] is None or ratio["high"] is None:
        return _judged(term, "speed-up", None, "", "too few runs for an interval")
    runs = len(file.latency["latencies_ms"])
    return _bounded(term, "speed-up", _ends(ratio), "", f"{runs} runs")


def _energy(term: Term, file: FileEvidence) -> Check:
    name, unit = "energy of a frame", "J"
    if file.energy is None:
        fix = "no energy was measured; bench --board ADDRESS --energy 30 --json, then judge"
        return _judged(term, name, None, unit, fix)
    if file.energy["frame_j"] is None:
        return _judged(term, name, None, unit, file.energy["reason"] or "power is not readable")
    return _bounded(term, name, _ends(file.energy["frame_j"]), unit, "these readings")


def _engine(term: Term, file: FileEvidence) -> Check:
    return _size(term, "engine", file.engine_bytes, file.missing or "there is no engine")


def _model(term: Term, file: FileEvidence) -> Check:
    return _size(term, "model file", file.model_bytes, "there is no model file")


def _memory(term: Term, file: FileEvidence) -> Check:
    peak = None if file.latency is None else file.latency.get("peak_rss_mib")
    missing = _NOT_TIMED if file.latency is None else "the benchmark read no memory"
    return _judged(term, "peak memory", peak, "MiB", missing)


def _size(term: Term, name: str, size_bytes: int | None, missing: str) -> Check:
    value = None if size_bytes is None else size_bytes / 1e6
    return _judged(term, name, value, "MB", missing)


def _ends(interval: Mapping[str, Any]) -> tuple[float, float, float]:
    return interval["value"], interval["low"], interval["high"]


def _judged(term: Term, name: str, value: float | None, unit: str, missing: str) -> Check:
    condition = term.condition
    note = missing if value is None else ""
    return judge(name, value, condition.comparison, condition.offset, unit=unit, note=note)


def _bounded(
    term: Term, name: str, ends: tuple[float, float, float], unit: str, seen: str
) -> Check:
    condition = term.condition
    value, low, high = ends
    return judge_bounds(
        name, value, (low, high), condition.comparison, condition.offset, unit=unit, seen=seen
    )
