"""What ``edgeport quantize`` tells a person: from its report to lines and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.console import Output

_WORST = 8

Report = Mapping[str, Any]


def tell(out: Output, path: str, report: Report) -> None:
    """Say what was done, what was left and why, and what comes next."""
    _tell_done(out, path, report)
    _tell_canonical(out, report)
    _tell_float(out, report)
    _tell_splits(out, report)
    _tell_corrections(out, report)
    _tell_layers(out, report)
    _tell_samples(out, report)
    seconds = report["seconds"]
    out.say(
        f"took {seconds['total']:.1f} s ({seconds['observe']:.1f} s to observe), peak memory "
        f"{report['peak_rss_mib']:.0f} MiB; next: edgeport verify MODEL {path} --samples …"
    )


def _tell_done(out: Output, path: str, report: Report) -> None:
    counts, total, work = report["quantized"], report["total"], report["multiply_adds"]
    done = ", ".join(f"{counts.get(op, 0)} of {total[op]} {op}" for op in total)
    share = f" ({work['quantized'] / work['total']:.1%} of the work)" if work["total"] else ""
    size = report["size_bytes"] / 1e6
    out.say(f"{path} ({size:.1f} MB): {done} in {report['weights'].upper()}{share}")
    out.say(
        f"policy {report['policy']}, scales {report['scales']} from {report['samples']['count']} "
        f"samples, {report['activations']['tensors']} activations with "
        f"{report['activations']['scales']} scales; rest {report['rest']}"
    )


def _tell_canonical(out: Output, report: Report) -> None:
    changes = report["canonical"]["changes"]
    if changes:
        moved = report["canonical"].get("largest_difference")
        by = "" if moved is None else f"; outputs moved by {moved:.1g} of their largest value"
        out.say(f"made ready: {', '.join(changes)}{by}")


def _tell_float(out: Output, report: Report) -> None:
    reasons: dict[str, Counter[str]] = {}
    for item in report["skipped"]:
        reasons.setdefault(item["reason"], Counter())[item["op_type"]] += 1
    rows = [(", ".join(f"{n} {op}" for op, n in c.items()), why) for why, c in reasons.items()]
    out.table("In float", ["nodes", "reason"], rows)
    spelled: dict[str, list[str]] = {}
    for item in report["respelled"]:
        spelled.setdefault(item["reason"], []).append(item["node"])
    for why, nodes in spelled.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        out.say(f"{nodes[0]}{more}: {why}")
    for item in report.get("cast", {}).get("kept_float", []):
        out.say(f"FP32: {item['node']} ({item['op_type']}): {item['reason']}")


def _tell_splits(out: Output, report: Report) -> None:
    keys = ("plain_sqnr_db", "split_sqnr_db")
    rows = [
        (split["node"], *(f"{split[key]:.1f}" if key in split else "" for key in keys))
        for split in report["split_nodes"]
    ]
    if rows:
        out.table("Split in two", ["node", "SQNR whole, dB", "SQNR split, dB"], rows)
    if report["scale_methods"]:
        chosen = ", ".join(f"{n} by {name}" for name, n in report["scale_methods"].items())
        out.say(f"ranges of tensors: {chosen}")
    if report.get("output_fidelity_db"):
        found = ", ".join(
            f"{db:.1f} dB {name}" for name, db in report["output_fidelity_db"].items()
        )
        out.say(f"outputs' fidelity by assignment of ranges: {found}")


def _tell_corrections(out: Output, report: Report) -> None:
    _tell_gain(out, "weights", "rounded to cancel errors", report.get("rounded_nodes", []))
    _tell_gain(out, "biases", "corrected", report.get("corrected_nodes", []))
    outputs = report.get("bias_correction", {})
    if outputs and not any(layer["kept"] for layer in report["corrected_nodes"]):
        before, tried = outputs["before_db"], outputs["tried_db"]
        out.say(f"  the outputs' fidelity would have gone from {before:.1f} to {tried:.1f} dB")
    if report.get("not_blocked"):
        reasons = Counter(item["reason"] for item in report["not_blocked"])
        rows = [(str(count), reason) for reason, count in reasons.items()]
        out.table("One scale a channel in spite of --block", ["weights", "reason"], rows)


def _tell_gain(out: Output, what: str, done: str, layers: Sequence[Report]) -> None:
    if not layers:
        return
    kept = [layer for layer in layers if layer["kept"]]
    gain = sum(layer["sqnr_after_db"] - layer["sqnr_before_db"] for layer in kept)
    mean = f", {gain / len(kept):+.1f} dB each on average" if kept else ""
    out.say(f"{what} of {len(kept)} of {len(layers)} layers {done}{mean}")


def _tell_layers(out: Output, report: Report) -> None:
    known = [layer for layer in report.get("layers", []) if layer["sqnr_after_db"] is not None]
    worst = sorted(known, key=lambda layer: layer["sqnr_after_db"])[:_WORST]
    if not worst:
        return
    columns = ["node", "operator", "SQNR naive, dB", "SQNR, dB"]
    keys = ("node", "op_type", "sqnr_before_db", "sqnr_after_db")
    title = f"Worst of {len(report['layers'])} layers, with all errors before them"
    out.table(title, columns, [[layer[key] for key in keys] for layer in worst])


def _tell_samples(out: Output, report: Report) -> None:
    overridden = report["calibration_set"]["overridden"]
    for finding in report["calibration_set"]["findings"]:
        known = " (overridden)" if finding["code"] in overridden else ""
        out.say(f"samples: {finding['code']}{known}: {finding['message']}. {finding['fix']}")
