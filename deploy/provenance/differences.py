"""What changed from one bundle to another: graph, precision, metrics, latency, energy, size.

Two latencies of two runs were not interleaved, so only ratios to each run's own reference are
compared, and only where their intervals do not overlap is a difference spoken of. So it is with
metrics: each has its interval, and "worse" or "better" means that they lie apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.bundle import Bundle
from deploy.console import cell
from deploy.contract.evidence import FileEvidence, MetricEvidence
from deploy.contract.markdown import escaped, table
from deploy.contract.reading import evidence_of_report
from deploy.metrics.paired import PairedInterval

JSON = Mapping[str, Any]
Direction = Literal["better", "worse", "changed", "within the intervals"]
Section = Literal["verdict", "graph", "precision", "metric", "latency", "energy", "size"]

COLUMNS = ("", "file", "what", "before", "after", "")


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; None on a side where there is none of it."""

    section: Section
    file: str
    what: str
    before: str | float | None
    after: str | float | None
    direction: Direction = "changed"

    @property
    def row(self) -> list[object]:
        return [self.section, self.file, self.what, self.before, self.after, self.direction]


def differences_of(before: Bundle, after: Bundle) -> list[Difference]:
    """Every difference, in the order of ``Section``."""
    return compare_reports(before.report, after.report)


def compare_reports(before: JSON, after: JSON) -> list[Difference]:
    found = [*_verdict(before, after), *_graphs(before, after), *_precision(before, after)]
    old = {file.name: file for file in evidence_of_report(before)}
    new = {file.name: file for file in evidence_of_report(after)}
    for name in [*old, *(name for name in new if name not in old)]:
        first, second = old.get(name, FileEvidence(name)), new.get(name, FileEvidence(name))
        found += [*_metrics(first, second), *_resources(first, second)]
    order = ("verdict", "graph", "precision", "metric", "latency", "energy", "size")
    return sorted(found, key=lambda one: order.index(one.section))


def to_markdown(found: list[Difference], title: str) -> str:
    """For the comment on a pull request."""
    if not found:
        return f"## {escaped(title)}\n\nNothing differs.\n"
    rows = [[cell(value) for value in one.row] for one in found]
    return "\n".join([f"## {escaped(title)}", "", *table(COLUMNS, rows)]) + "\n"


def _verdict(before: JSON, after: JSON) -> Iterator[Difference]:
    was, now = before["verdict"], after["verdict"]
    if was["status"] != now["status"]:
        direction: Direction = "better" if now["status"] == "pass" else "worse"
        yield Difference("verdict", "", "status", was["status"], now["status"], direction)
    old = {check["name"]: check["ok"] for check in was["checks"]}
    new = {check["name"]: check["ok"] for check in now["checks"]}
    words = {True: "holds", False: "missed", None: "no evidence"}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in old or name not in new:
            yield Difference(
                "verdict",
                "",
                name,
                words[old[name]] if name in old else None,
                words[new[name]] if name in new else None,
            )
        elif old[name] is not new[name]:
            direction = "better" if new[name] is True else "worse"
            yield Difference("verdict", "", name, words[old[name]], words[new[name]], direction)


def _graphs(before: JSON, after: JSON) -> Iterator[Difference]:
    old, new = (
        {file["role"]: file for file in report["model"]["files"]} for report in (before, after)
    )
    for role in [*old, *(role for role in new if role not in old)]:
        first, second = old.get(role), new.get(role)
        if first is None or second is None:
            was, now = ("there" if side is not None else None for side in (first, second))
            yield Difference("graph", role, "file", was, now)
            continue
        if first["sha256"] == second["sha256"]:
            continue
        operators = sorted({*first["operators"], *second["operators"]})
        for operator in operators:
            was, now = (file["operators"].get(operator, 0) for file in (first, second))
            if was != now:
                yield Difference("graph", role, f"{operator} nodes", was, now)
        was, now = (file["size_bytes"] / 1e6 for file in (first, second))
        if was != now:
            direction: Direction = "better" if now < was else "worse"
            yield Difference("size", role, "model file, MB", was, now, direction)
        if first["operators"] == second["operators"]:
            was, now = (file["sha256"][:12] for file in (first, second))
            yield Difference("graph", role, "content, same operators", was, now)


def _precision(before: JSON, after: JSON) -> Iterator[Difference]:
    """Nodes that went to float or came back, by file."""
    old, new = (_float_nodes(report) for report in (before, after))
    for role in old.keys() & new.keys():
        for node in sorted(old[role] ^ new[role]):
            was, now = ("float" if node in side[role] else "INT8" for side in (old, new))
            yield Difference("precision", role, node, was, now)


def _float_nodes(report: JSON) -> dict[str, set[str]]:
    return {
        f"int8-{entry['policy']}": {node["node"] for node in entry["skipped"]}
        for entry in report["quantization"] or ()
    }


def _metrics(before: FileEvidence, after: FileEvidence) -> Iterator[Difference]:
    old = {(m.output, m.name): m for m in before.metrics or ()}
    new = {(m.output, m.name): m for m in after.metrics or ()}
    for key in old.keys() & new.keys():
        first, second = old[key], new[key]
        if first.candidate == second.candidate or first.candidate != first.candidate:
            continue
        name = " ".join(part for part in key if part)
        what = f"{name}, {first.unit}" if first.unit else name
        direction = _apart(_alone(first), _alone(second), more_is_better=True)
        yield Difference("metric", after.name, what, first.candidate, second.candidate, direction)


def _alone(metric: MetricEvidence) -> PairedInterval | None:
    return metric.difference  # paired: what makes samples hard for both is out of it


def _apart(
    first: PairedInterval | None, second: PairedInterval | None, *, more_is_better: bool
) -> Direction:
    if first is None or second is None:
        return "changed"
    return _sides((first.low, first.high), (second.low, second.high), more_is_better)


def _sides(
    first: tuple[float, float], second: tuple[float, float], more_is_better: bool
) -> Direction:
    if first[0] <= second[1] and second[0] <= first[1]:
        return "within the intervals"
    rose = second[0] > first[1]
    return "better" if rose == more_is_better else "worse"


def _resources(before: FileEvidence, after: FileEvidence) -> Iterator[Difference]:
    was, now = _ratio(before), _ratio(after)
    if was is not None and now is not None and was != now:
        what, direction = "times as fast as its reference", _sides(_ends(was), _ends(now), True)
        yield Difference("latency", after.name, what, was["value"], now["value"], direction)
    was, now = _frame(before), _frame(after)
    if was is not None and now is not None and was != now:
        direction = _sides(_ends(was), _ends(now), False)
        yield Difference(
            "energy", after.name, "joules a frame", was["value"], now["value"], direction
        )
    first, second = before.engine_bytes, after.engine_bytes
    if first is not None and second is not None and first != second:
        direction = "better" if second < first else "worse"
        yield Difference("size", after.name, "engine, MB", first / 1e6, second / 1e6, direction)


def _ratio(file: FileEvidence) -> JSON | None:
    ratio: JSON | None = (file.latency or {}).get("ratio_to_reference")
    return ratio if ratio and ratio["low"] is not None else None


def _frame(file: FileEvidence) -> JSON | None:
    frame: JSON | None = (file.energy or {}).get("frame_j")
    return frame


def _ends(interval: JSON) -> tuple[float, float]:
    return interval["low"], interval["high"]
