"""How long a frame takes: bars from zero to each case's median, so that lengths compare."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import cases as parts
from deploy.report.charts import svg
from deploy.report.schema import LatencyCase

_NAME, _BAR, _GAP, _AXIS = 24, 20, 18, 26


def medians(cases: Sequence[LatencyCase]) -> Markup:
    """A bar a case from zero to its median, with the runs as dots around the end."""
    label = "Median latency: " + "; ".join(map(_in_words, cases))
    return svg.picture(lambda width: _draw(cases, width), label)


def run_order(latencies_ms: Sequence[float], series: int) -> Markup:
    """A sparkline of latency in the order of the runs: drift and throttling show as a slope."""
    width, height = 120, 22
    if len(latencies_ms) < 2:
        return Markup("")
    chunk = max(1, len(latencies_ms) // width)
    values = [median(latencies_ms[i : i + chunk]) for i in range(0, len(latencies_ms), chunk)]
    x = svg.Scale(0, len(values) - 1, 1, width - 1)
    y = svg.Scale(min(values), max(values), height - 2, 2)
    points = " ".join(f"{x(i)},{y(v)}" for i, v in enumerate(values))
    low, high = formats.number(min(values)), formats.number(max(values))
    return svg.element(
        "svg",
        svg.element("polyline", points=points, class_=f"spark stroke-{series}"),
        class_="sparkline",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"runs in order, between {low} and {high} ms",
    )


def _in_words(case: LatencyCase) -> str:
    middle = parts.centre(case)
    return f"{case.name} {formats.number(middle)} ms" if middle else f"{case.name} not measured"


def _draw(cases: Sequence[LatencyCase], width: int) -> tuple[Markup, float]:
    longest = max(map(parts.usual_high, cases), default=0.0) or 1.0
    # room on the right for the words after the longest bar
    x = svg.Scale(0, longest * 1.01, 0, width - (230 if width == svg.WIDE else 110))
    rows, y = [], 0.0
    for series, case in enumerate(cases, start=1):
        rows.append(_row(case, series, x, y, width))
        y += _NAME + _BAR + _GAP
    marks = svg.ticks(0, x.high, 8 if width == svg.WIDE else 3)
    grid = parts.grid([(x(t), f"{formats.number(t)} ms") for t in marks], y)
    return grid + svg.group(rows), y + _AXIS


def _row(case: LatencyCase, series: int, x: svg.Scale, top: float, width: int) -> Markup:
    name = parts.name(case, top + 15, width)
    middle = parts.centre(case)
    y = top + _NAME
    if not middle:
        return name + svg.text(0, y + 14, "no evidence: no run was timed", class_="tick quiet")
    bar = svg.element(
        "rect", x=0, y=y, width=x(middle), height=_BAR, class_=f"median fill-{series}"
    )
    inside = [(x(v), v) for v in case.latencies_ms if v <= x.high]
    beyond = len(case.latencies_ms) - len(inside)
    words = f"{formats.number(middle)} ms"
    if beyond and width == svg.WIDE:
        slowest = formats.number(max(case.latencies_ms))
        words += f"   ▸ {formats.plural(beyond, 'run')} up to {slowest} ms"
    end = x.end if beyond else max([x(middle), *(place for place, _ in inside)])
    value = svg.text(end + 8, y + 15, words, class_="value halo")
    return svg.group([name, bar, *parts.dots(inside, series, y - 2, _BAR + 4), value])
