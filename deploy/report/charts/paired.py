"""FP32 against INT8, sample by sample: each sample a dot, and below the interval of all of them.

One row a metric, on a scale of its own that starts at no difference where the metric has a
reference. A loss inside the grey band is one that this many samples could not show: nothing that
lies there is evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.schema import Paired, PairedInterval

_NAME, _STRIP, _LANE, _AXIS, _GAP = 24, 30, 20, 26, 16
_GOLDEN = 0.61803398875


def differences(metrics: Sequence[Paired]) -> Markup:
    """A row for each metric that has an interval; nothing where none has."""
    drawn = [metric for metric in metrics if metric.interval is not None]
    if not drawn:
        return Markup("")
    label = "Per-sample differences: " + "; ".join(in_words(metric) for metric in drawn)
    return svg.picture(lambda width: _draw(drawn, width), label)


def in_words(metric: Paired) -> str:
    """``label agreement −1.8 points, 95 % interval −2.1 to −1.5``."""
    name, interval = title(metric), metric.interval
    if interval is None:
        return f"{name} has no interval: {metric.why_not or 'not measured'}"
    level = f"{interval.confidence * 100:g} % interval"
    return f"{name} {amount(metric, interval.value)}, {level} {reach(metric)}"


def title(metric: Paired) -> str:
    """The metric's name, with its output's where that says more."""
    name = formats.title(metric.name)
    return f"{name} of {metric.output}" if metric.output else name


def amount(metric: Paired, value: float | None) -> str:
    """A difference of a share in percent points, anything else in its unit, with a sign."""
    if value is None:
        return formats.NOTHING
    scale, unit = _unit(metric)
    sign = "+" if value > 0 and metric.reference is not None else ""
    return f"{sign}{_short(value * scale)}{unit}"


def reach(metric: Paired) -> str:
    """The interval's ends, with the unit once."""
    interval = metric.interval
    if interval is None or interval.low is None or interval.high is None:
        return formats.NOTHING
    _, unit = _unit(metric)
    low = amount(metric, interval.low).removesuffix(unit)
    return f"{low} to {amount(metric, interval.high)}"


def smallest_loss(metric: Paired) -> str:
    """What these samples could have shown at all, as a sentence."""
    interval = metric.interval
    if interval is None:
        return f"{title(metric)}: no interval ({metric.why_not or 'not measured'})."
    count = formats.plural(interval.samples, "sample")
    if interval.detectable is None:
        return f"{title(metric)}: {count}, all alike, so nothing is known of their spread."
    least = amount(metric, interval.detectable).removeprefix("+")
    what = "loss" if metric.reference is not None else "change"
    return f"{title(metric)}: the smallest {what} that {count} can show is {least}."


def _unit(metric: Paired) -> tuple[float, str]:
    if formats.is_share(metric.name):
        return 100.0, " points"
    if metric.unit == "%":
        return 1.0, " points" if metric.reference is not None else " %"
    return 1.0, f" {metric.unit}" if metric.unit else ""


def _short(value: float) -> str:
    """Three significant digits, with a real minus; what rounds to nothing is 0."""
    return formats.plain(float(f"{value:.3g}"))


def _draw(metrics: Sequence[Paired], width: int) -> tuple[Markup, float]:
    rows, y = [], 0.0
    for series, metric in enumerate(metrics, start=1):
        drawn, y = _row(metric, series, y, width)
        rows.append(drawn)
    return svg.group(rows), y - _GAP


def _row(metric: Paired, series: int, top: float, width: int) -> tuple[Markup, float]:
    interval = metric.interval
    assert interval is not None  # `differences` leaves the others out
    color = (series - 1) % 6 + 1
    x = _scale(metric, interval, width)
    strip, lane = top + _NAME, top + _NAME + _STRIP
    bottom = lane + _LANE
    marks = svg.ticks(x.low, x.high, 8 if width == svg.WIDE else 3)
    grid = [svg.line(x(t), strip, x(t), bottom, class_="grid") for t in marks]
    texts = [
        svg.text(x(t), bottom + 16, _short(t), class_="tick middle" if x(t) > 15 else "tick")
        for t in marks
    ]
    name = svg.text(0, top + 15, svg.shortened(title(metric), width), class_="row-name")
    parts = [name, *_band(metric, interval, x, strip, bottom), *grid, *texts]
    parts += _dots(metric, color, x, strip)
    parts.append(_whisker(metric, interval, color, x, lane + _LANE / 2, width))
    return svg.group(parts), bottom + _AXIS + _GAP


def _scale(metric: Paired, interval: PairedInterval, width: int) -> svg.Scale:
    """In the unit that is shown, zero included where it means "no difference"."""
    scale, _ = _unit(metric)
    ends = [interval.value, interval.low, interval.high, *(v.value for v in metric.values)]
    if metric.reference is not None:
        ends.append(0.0)
    if interval.detectable is not None and metric.reference is not None:
        ends.append(-interval.detectable)
    known = [v * scale for v in ends if v is not None and math.isfinite(v)]
    low, high = min(known), max(known)
    margin = (high - low) * 0.03 or max(abs(high), 1.0) * 0.03
    # room on the right for the words after the whisker
    return svg.Scale(low - margin, high + margin, 4, width - (320 if width == svg.WIDE else 12))


def _band(
    metric: Paired, interval: PairedInterval, x: svg.Scale, top: float, bottom: float
) -> list[Markup]:
    """Losses too small to be shown, and the line of no difference."""
    if metric.reference is None:
        return []
    zero = x(0.0)
    parts = []
    if interval.detectable is not None:
        start = x(-interval.detectable * _unit(metric)[0])
        words = f"too small for {formats.plural(interval.samples, 'sample')} to show"
        parts.append(
            svg.element(
                "rect",
                svg.title(words),
                x=start,
                y=top,
                width=max(round(zero - start, 2), 0),
                height=bottom - top,
                class_="undetectable",
            )
        )
    return [*parts, svg.line(zero, top - 4, zero, bottom + 2, class_="zero")]


def _dots(metric: Paired, series: int, x: svg.Scale, top: float) -> list[Markup]:
    scale, _ = _unit(metric)
    return [
        svg.element(
            "circle",
            svg.title(f"{item.sample}: {amount(metric, item.value)}"),
            cx=x(item.value * scale),
            # the golden ratio's multiples spread evenly: a jitter that is the same every time
            cy=round(top + 4 + (index * _GOLDEN % 1.0) * (_STRIP - 8), 2),
            r=2.8,
            class_=f"dot fill-{series}",
        )
        for index, item in enumerate(metric.values)
        if item.value is not None and math.isfinite(item.value)
    ]


def _whisker(
    metric: Paired, interval: PairedInterval, series: int, x: svg.Scale, y: float, width: int
) -> Markup:
    scale, _ = _unit(metric)
    ends = (interval.low, interval.value, interval.high)
    if None in ends:
        return Markup("")
    low, middle, high = (x((v or 0.0) * scale) for v in ends)
    kind = f"whisker stroke-{series}"
    drawn = [svg.line(low, y, high, y, class_=kind)]
    drawn += [svg.line(v, y - 5, v, y + 5, class_=kind) for v in (low, high)]
    drawn.append(svg.element("circle", cx=middle, cy=y, r=4, class_=f"mark fill-{series}"))
    if width == svg.WIDE:
        words = f"{amount(metric, interval.value)}   ({reach(metric)})"
        drawn.append(svg.text(x.end + 12, y + 4, words, class_="value"))
    return svg.group([*drawn, svg.title(in_words(metric))])
