"""What was found, as JSON: units, what each costs, and the curve of accuracy against speed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from calibration.sensitivity.front import Point, Predictor
from calibration.sensitivity.noise import decibels
from calibration.sensitivity.search import Search, Trial
from calibration.sensitivity.workbench import Workbench, atoms_of

JSON = dict[str, Any]


def unit_rows(bench: Workbench, predictor: Predictor, noise: Mapping[str, float]) -> list[JSON]:
    """Every unit with what its INT8 does, worst for its price first.

    ``sqnr_db`` is of the outputs with only this unit in INT8, apart for its weights and for the
    tensors that it reads and makes. ``gain_db`` is what the SQNR of everything in INT8 gains when
    this unit alone is given back, ``cost`` what that takes. All are sums of roundings measured one
    at a time.
    """
    whole = predictor.point(())
    rows = []
    for unit in bench.units:
        atoms = atoms_of(unit, bench)
        weights = sum(noise[a.name] for a in atoms if a.node)
        tensors = sum(noise[a.name] for a in atoms if a.tensors)
        after = predictor.point((unit.name,))
        price = after.cost - whole.cost
        rows.append(
            {
                "unit": unit.name,
                "op_type": unit.op_type,
                "nodes": list(unit.source_nodes),
                "sqnr_db": _finite(decibels(weights + tensors)),
                "weights_db": _finite(decibels(weights)),
                "activations_db": _finite(decibels(tensors)),
                "noise_share": weights + tensors,
                "gain_db": _finite(decibels(after.noise) - decibels(whole.noise)),
                "cost": price,
            }
        )
    return sorted(rows, key=_rank)


def _rank(row: JSON) -> tuple[bool, float]:
    """Free ones first, then by damage for the price."""
    free = row["cost"] <= 0
    return not free, -row["noise_share"] / (1.0 if free else row["cost"])


def given_back_rows(search: Search, chosen: Trial, rows: list[JSON]) -> list[JSON]:
    """The units that stay float, each with the loss that its INT8 would add, where it was tried."""
    known = {row["unit"]: row for row in rows}
    found = []
    for name in sorted(chosen.point.floats, key=list(known).index):
        row = known[name]
        back = search.predictor.point(chosen.point.floats - {name})
        entry = {key: row[key] for key in ("unit", "op_type", "nodes", "sqnr_db")}
        entry["cost"] = chosen.point.cost - back.cost
        entry["loss"] = {}
        if name in search.losses:
            kept, lost = search.losses[name]
            entry["loss"] = {
                c.name: abs(kept.scores[c.name].value - lost.scores[c.name].value)
                for c in search.budget.quality
            }
        found.append(entry)
    return found


def curve_rows(search: Search, measured_ms: Mapping[Point, float]) -> list[JSON]:
    """Every trial, from the cheapest on."""
    names = [condition.name for condition in search.budget.quality]
    trials = sorted(search.trials.values(), key=lambda t: t.point.cost)
    return [
        {
            **{name: _finite(trial.scores[name].value) for name in names},
            "holds": trial.holds,
            "predicted_cost": trial.point.cost,
            "predicted_sqnr_db": _finite(decibels(trial.point.noise)),
            "ms": measured_ms.get(trial.point),
            "quantized": trial.point.quantized,
            "floats": sorted(trial.point.floats),
        }
        for trial in trials
    ]


def score_rows(search: Search, trial: Trial) -> list[JSON]:
    """The budget's metrics with what was measured, and how sure that is."""
    rows = []
    for condition in search.budget.quality:
        measured = trial.scores[condition.name]
        rows.append(
            {
                "metric": condition.name,
                "condition": str(condition),
                "bound": _finite(condition.bound(measured)),
                **{key: _finite(value) for key, value in asdict(measured).items()},
                "holds": condition.margin(measured, sure=search.sure) >= 0,
            }
        )
    return rows


def reasons(predictor: Predictor, trial: Trial, budget: str) -> dict[str, str]:
    """Node name to the reason that the model file gives for its float."""
    point = trial.point
    found = {}
    for name in sorted(point.floats):
        saves = point.cost > predictor.point(point.floats - {name}).cost
        why = f"given back to keep {budget}" if saves else "INT8 would save no time here"
        found.update(dict.fromkeys(predictor.units[name].source_nodes, why))
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
