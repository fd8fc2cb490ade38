"""Latency as two charts: how long a frame takes, and how steady each case is on its own scale.

The first starts at zero, so that lengths compare; there a spread of one per cent is a blob. The
second therefore shows every run as its distance from the case's own median, with p50, p90 and p99
and their order-statistic intervals; a percentile that the runs do not support shows its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.schema import LatencyCase, Percentile

_MOST_DOTS = 400
_GOLDEN = 0.61803398875
_NAME, _BAR, _STRIP, _LANE, _GAP, _AXIS = 24, 20, 30, 20, 18, 40
_LEFT = 44


def medians(cases: Sequence[LatencyCase]) -> Markup:
    """A bar a case from zero to its median, with the runs as dots around the end."""
    label = "Median latency: " + "; ".join(
        f"{case.name} {formats.number(centre)} ms"
        if (centre := _centre(case))
        else f"{case.name} not measured"
        for case in cases
    )
    return svg.picture(lambda width: _draw_medians(cases, width), label)


def spreads(cases: Sequence[LatencyCase]) -> Markup:
    """Every run relative to its case's median, and the percentiles with their whiskers."""
    timed = [case for case in cases if _centre(case) and (case.latencies_ms or case.percentiles)]
    if not timed:
        return Markup("")
    label = "Spread of latency around each case's median: " + "; ".join(map(_in_words, timed))
    series = {case.name: index for index, case in enumerate(cases, start=1)}
    return svg.picture(lambda width: _draw_spreads(timed, series, width), label)


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


def _centre(case: LatencyCase) -> float | None:
    """The case's median: the stated p50, else that of its runs."""
    stated = next((p.value_ms for p in case.percentiles if p.p == 50 and p.value_ms), None)
    return stated or (median(case.latencies_ms) if case.latencies_ms else None)


def _in_words(case: LatencyCase) -> str:
    known = [
        f"{formats.ordinal(p.p)} {formats.number(p.value_ms)} ms"
        for p in case.percentiles
        if p.value_ms is not None
    ]
    return f"{case.name}: {', '.join(known) or 'no supported percentile'}"


# --- from zero -----------------------------------------------------------------------------------


def _draw_medians(cases: Sequence[LatencyCase], width: int) -> tuple[Markup, float]:
    longest = max(
        (v for case in cases for v in [*case.latencies_ms, _centre(case) or 0]), default=1
    )
    x = svg.Scale(0, (longest or 1) * 1.01, 0, width - 90)
    rows, y = [], 0.0
    for series, case in enumerate(cases, start=1):
        rows.append(_median_row(case, series, x, y, width))
        y += _NAME + _BAR + _GAP
    grid = _vertical_grid(svg.ticks(0, x.high, 8 if width == svg.WIDE else 4), x, y, "{} ms")
    return grid + svg.group(rows), y + _AXIS - 14


def _median_row(case: LatencyCase, series: int, x: svg.Scale, top: float, width: int) -> Markup:
    name = svg.text(
        0, top + 15, svg.shortened(formats.spelled(case.name), width), class_="row-name halo"
    )
    centre = _centre(case)
    y = top + _NAME
    if not centre:
        return name + svg.text(0, y + 14, "no evidence: no run was timed", class_="tick quiet")
    bar = svg.element(
        "rect", x=0, y=y, width=x(centre), height=_BAR, class_=f"median fill-{series}"
    )
    dots = _dots([(x(v), v) for v in case.latencies_ms], series, y - 2, _BAR + 4)
    end = x(max([centre, *case.latencies_ms]))
    value = svg.text(end + 8, y + 15, f"{formats.number(centre)} ms", class_="value halo")
    return svg.group([name, bar, *dots, value])


# --- around the median ---------------------------------------------------------------------------


def _draw_spreads(
    cases: Sequence[LatencyCase], series: dict[str, int], width: int
) -> tuple[Markup, float]:
    x = _spread_scale(cases, width)
    rows, y = [], 0.0
    for case in cases:
        drawn, y = _spread_row(case, series[case.name], x, y, width)
        rows.append(drawn)
    grid = [
        svg.line(x(t), 0, x(t), y, class_="grid")
        + svg.text(x(t), y + 18, _change(t), class_="tick middle")
        for t in svg.ticks(x.low, x.high, 8 if width == svg.WIDE else 3)
    ]
    return svg.group(grid) + svg.group(rows), y + _AXIS - 14


def _spread_scale(cases: Sequence[LatencyCase], width: int) -> svg.Scale:
    """From the fastest run to the slowest 1 %, in per cent of the median, with all whiskers."""
    inside: list[float] = [-1.0, 1.0]
    for case in cases:
        changes = sorted(_changes(case, case.latencies_ms))
        if changes:
            inside += [changes[0], changes[min(len(changes) - 1, int(len(changes) * 0.99))]]
        ends = [v for p in case.percentiles for v in (p.value_ms, p.low_ms, p.high_ms) if v]
        inside += _changes(case, ends)
    low, high = min(inside), max(inside)
    # room on the right for the words after the last whisker
    return svg.Scale(low, high, _LEFT + 4, width - (190 if width == svg.WIDE else 96))


def _spread_row(
    case: LatencyCase, series: int, x: svg.Scale, top: float, width: int
) -> tuple[Markup, float]:
    runs = formats.plural(len(case.latencies_ms), "run")
    parts = [
        svg.text(
            0,
            top + 15,
            svg.shortened(formats.spelled(case.name), width - 90),
            class_="row-name halo",
        ),
        svg.text(width, top + 15, runs, class_="tick end"),
    ]
    y = top + _NAME
    changes = _changes(case, case.latencies_ms)
    inside = [(x(c), v) for c, v in zip(changes, case.latencies_ms, strict=True) if c <= x.high]
    parts.extend(_dots(inside, series, y, _STRIP))
    beyond = len(changes) - len(inside)
    if beyond:
        note = f"▸ {beyond} beyond, up to {_change(max(changes))}"
        if width == svg.NARROW:
            note = f"▸ {beyond} more"
        parts.append(svg.text(x.end + 10, y + _STRIP / 2 + 4, note, class_="tick"))
    y += _STRIP
    for percentile in case.percentiles:
        parts.append(_lane(case, percentile, series, x, y + _LANE / 2, width))
        y += _LANE
    return svg.group(parts), y + _GAP


def _lane(
    case: LatencyCase, percentile: Percentile, series: int, x: svg.Scale, y: float, width: int
) -> Markup:
    name = svg.text(0, y + 4, formats.ordinal(percentile.p), class_="tick")
    if percentile.value_ms is None:
        reason = f"not stated: {percentile.reason or 'these runs do not support it'}"
        shown = svg.shortened(reason, width - _LEFT)
        return svg.group(
            [name, svg.text(_LEFT, y + 4, shown, class_="tick quiet halo"), svg.title(reason)]
        )
    parts = [name]
    at = _changes(case, [percentile.value_ms])[0]
    end = x(at)
    if percentile.low_ms is not None and percentile.high_ms is not None:
        low, high = _changes(case, [percentile.low_ms, percentile.high_ms])
        end = max(end, x(high))
        kind = f"whisker stroke-{series}"
        parts.append(svg.line(x(low), y, x(high), y, class_=kind))
        parts.extend(svg.line(x(v), y - 5, x(v), y + 5, class_=kind) for v in (low, high))
    parts.append(svg.element("circle", cx=x(at), cy=y, r=4, class_=f"mark fill-{series}"))
    words = f"{formats.number(percentile.value_ms)} ms"
    parts.append(svg.text(end + 10, y + 4, words, class_="value halo"))
    return svg.group([*parts, svg.title(_whole(percentile))])


def _whole(percentile: Percentile) -> str:
    spread = ""
    if percentile.low_ms is not None and percentile.high_ms is not None:
        low, high = formats.number(percentile.low_ms), formats.number(percentile.high_ms)
        spread = f", interval {low} to {high} ms"
    return f"{formats.ordinal(percentile.p)}: {formats.number(percentile.value_ms)} ms{spread}"


# --- shared --------------------------------------------------------------------------------------


def _changes(case: LatencyCase, values_ms: Sequence[float]) -> list[float]:
    """Each value as per cent above the case's median."""
    centre = _centre(case)
    return [(value / centre - 1) * 100 for value in values_ms] if centre else []


def _change(percent: float) -> str:
    return "median" if abs(percent) < 1e-9 else f"{percent:+.3g} %".replace("-", "−")


def _dots(
    places: Sequence[tuple[float, float]], series: int, top: float, height: float
) -> list[Markup]:
    """A dot for each (x in pixels, latency in ms); of very many runs every k-th."""
    step = max(1, -(-len(places) // _MOST_DOTS))
    return [
        svg.element(
            "circle",
            svg.title(f"{formats.number(value)} ms"),
            cx=x,
            # the golden ratio's multiples spread evenly: a jitter that is the same every time
            cy=round(top + 3 + (index * _GOLDEN % 1.0) * (height - 6), 2),
            r=2.3,
            class_=f"dot fill-{series}",
        )
        for index, (x, value) in enumerate(places[::step])
    ]


def _vertical_grid(marks: Sequence[float], x: svg.Scale, bottom: float, words: str) -> Markup:
    lines = [svg.line(x(t), 0, x(t), bottom, class_="grid") for t in marks]
    texts = [
        svg.text(
            x(t),
            bottom + 18,
            words.format(formats.number(t)),
            class_="tick" if t == 0 else "tick middle",
        )
        for t in marks
    ]
    return svg.group(lines) + svg.group(texts)
