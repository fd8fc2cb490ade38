"""What ``edgeport quantize --budget`` says of its search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.console import Output


def tell_budget(out: Output, report: Mapping[str, Any], *, written: bool) -> None:
    """The nodes that were given back, what they cost, and the verdict."""
    unit = report["cost_unit"]
    paid = [row for row in report["given_back"] if row["cost"] > 0]
    free = [row for row in report["given_back"] if row["cost"] <= 0]
    rows = [
        [", ".join(row["nodes"]), row["op_type"], row["sqnr_db"], _loss(row), row["cost"]]
        for row in paid
    ]
    columns = ["node", "op", "SQNR alone, dB", "loss if INT8", f"costs, {unit}"]
    if rows:
        out.table("Given back to float", columns, rows)
    if free:
        names = ", ".join(name for row in free for name in row["nodes"])
        out.say(f"in float because INT8 saves nothing there: {names}")
    for row in report["scores"]:
        out.say(f"{row['condition']}: {_value(row)}{'' if row['holds'] else ', missed'}")
    if report["ms"] is not None:
        out.say(
            f"{report['ms']:.4g} ms, FP32 {report['fp32_ms']:.4g} ms, FP32 folded as here "
            f"{report['folded_ms']:.4g} ms, taking turns: {report['speedup']:.2f} times as fast"
        )
        if report["folded_ms"] < report["ms"] and report["speedup"] >= 1:
            out.say("what is faster is the folding; INT8 within this budget saves memory, not time")
        if report["speedup"] < 1:
            out.say("FP32 is faster here: this file saves memory, not time")
    kept = len(report["given_back"])
    out.say(
        f"{report['budget']}: {'holds' if report['holds'] else 'not held'}, {kept} of "
        f"{report['units']} units in float after {report['trials']} trials"
    )
    if not report["holds"]:
        end = "the best file found was written" if written else "nothing was written"
        out.say(f"{end}; raise --effort, or look at the curve for what can be had")


def _loss(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{value:.4g}" for value in row["loss"].values()) or "–"


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "no evidence"
    text = f"{row['value']:.4g}"
    if row.get("low") is not None:
        text += f" [{row['low']:.4g}, {row['high']:.4g}]"
    if row.get("detectable") is not None:
        text += f"; these samples show a loss of {row['detectable']:.2g}"
    return text
