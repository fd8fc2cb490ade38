"""How steady each case is: every run as its distance from the case's own median, in per cent.

Below the runs stand p50, p90 and p99 with their order-statistic intervals as whiskers; a
percentile that the runs do not support shows its reason instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import cases as parts
from deploy.report.charts import svg
from deploy.report.schema import LatencyCase, Percentile

_NAME, _STRIP, _LANE, _GAP, _AXIS, _LEFT = 24, 30, 20, 18, 26, 44


def spreads(cases: Sequence[LatencyCase]) -> Markup:
    """One row for each case that has a median; nothing where none has."""
    timed = [(series, case) for series, case in enumerate(cases, start=1) if parts.centre(case)]
    if not timed:
        return Markup("")
    label = "Spread of latency around each case's median: "
    label += "; ".join(_in_words(case) for _, case in timed)
    return svg.picture(lambda width: _draw(timed, width), label)


def _in_words(case: LatencyCase) -> str:
    known = [_percentile_in_words(p) for p in case.percentiles if p.value_ms is not None]
    return f"{case.name}: {', '.join(known) or 'no supported percentile'}"


def _percentile_in_words(percentile: Percentile) -> str:
    text = f"{formats.ordinal(percentile.p)} {formats.number(percentile.value_ms)} ms"
    if percentile.low_ms is not None and percentile.high_ms is not None:
        low, high = formats.number(percentile.low_ms), formats.number(percentile.high_ms)
        text += f", interval {low} to {high} ms"
    return text


def _draw(timed: Sequence[tuple[int, LatencyCase]], width: int) -> tuple[Markup, float]:
    x = _scale([case for _, case in timed], width)
    rows, y = [], 0.0
    for series, case in timed:
        drawn, y = _row(case, series, x, y, width)
        rows.append(drawn)
    marks = svg.ticks(x.low, x.high, 8 if width == svg.WIDE else 3)
    grid = parts.grid([(x(t), _change(t)) for t in marks], y)
    return grid + svg.group(rows), y + _AXIS


def _scale(cases: Sequence[LatencyCase], width: int) -> svg.Scale:
    """From the fastest run to the slowest usual one, in per cent of the median."""
    ends = [-1.0, 1.0]
    for case in cases:
        lows = [p.low_ms for p in case.percentiles if p.low_ms is not None]
        high = parts.usual_high(case)
        ends += _changes(case, [min([*case.latencies_ms, *lows, high]), high])
    # room on the right for the words after the last whisker
    right = width - (190 if width == svg.WIDE else 96)
    return svg.Scale(min(ends), max(ends), _LEFT + 4, right)


def _row(
    case: LatencyCase, series: int, x: svg.Scale, top: float, width: int
) -> tuple[Markup, float]:
    runs = formats.plural(len(case.latencies_ms), "run")
    drawn = [
        parts.name(case, top + 15, width - 90),
        svg.text(width, top + 15, runs, class_="tick end"),
    ]
    y = top + _NAME
    changes = _changes(case, case.latencies_ms)
    inside = [(x(c), v) for c, v in zip(changes, case.latencies_ms, strict=True) if c <= x.high]
    drawn.extend(parts.dots(inside, series, y, _STRIP))
    beyond = len(changes) - len(inside)
    if beyond:
        note = f"▸ {beyond} beyond, up to {_change(max(changes))}"
        shown = note if width == svg.WIDE else f"▸ {beyond} more"
        drawn.append(svg.text(x.end + 10, y + _STRIP / 2 + 4, shown, class_="tick"))
    y += _STRIP
    for percentile in case.percentiles:
        drawn.append(_lane(case, percentile, series, x, y + _LANE / 2, width))
        y += _LANE
    return svg.group(drawn), y + _GAP


def _lane(
    case: LatencyCase, percentile: Percentile, series: int, x: svg.Scale, y: float, width: int
) -> Markup:
    drawn = [svg.text(0, y + 4, formats.ordinal(percentile.p), class_="tick")]
    if percentile.value_ms is None:
        reason = f"not stated: {percentile.reason or 'these runs do not support it'}"
        shown = svg.shortened(reason, width - _LEFT)
        drawn.append(svg.text(_LEFT, y + 4, shown, class_="tick quiet halo"))
        return svg.group([*drawn, svg.title(reason)])
    at = _changes(case, [percentile.value_ms])[0]
    end = x(at)
    if percentile.low_ms is not None and percentile.high_ms is not None:
        low, high = (x(c) for c in _changes(case, [percentile.low_ms, percentile.high_ms]))
        end = max(end, high)
        kind = f"whisker stroke-{series}"
        drawn.append(svg.line(low, y, high, y, class_=kind))
        drawn.extend(svg.line(v, y - 5, v, y + 5, class_=kind) for v in (low, high))
    drawn.append(svg.element("circle", cx=x(at), cy=y, r=4, class_=f"mark fill-{series}"))
    words = f"{formats.number(percentile.value_ms)} ms"
    drawn.append(svg.text(end + 10, y + 4, words, class_="value halo"))
    return svg.group([*drawn, svg.title(_percentile_in_words(percentile))])


def _changes(case: LatencyCase, values_ms: Sequence[float]) -> list[float]:
    """Each value as per cent above the case's median."""
    middle = parts.centre(case)
    return [(value / middle - 1) * 100 for value in values_ms] if middle else []


def _change(percent: float) -> str:
    return "median" if abs(percent) < 1e-9 else f"{percent:+.3g} %".replace("-", "−")
