"""What both latency charts share: a case's median, its usual range, and its runs as dots."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.schema import LatencyCase

_MOST_DOTS = 400
_FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's "far out"
_GOLDEN = 0.61803398875


def centre(case: LatencyCase) -> float | None:
    """The case's median: the stated p50, else that of its runs; None where nothing was timed."""
    stated = next((p.value_ms for p in case.percentiles if p.p == 50 and p.value_ms), None)
    return stated or (median(case.latencies_ms) if case.latencies_ms else None) or None


def usual_high(case: LatencyCase) -> float:
    """The slowest run that is not far out, or the end of the widest whisker if that is slower.

    A chart ends here: a single run of seven times the median must not squeeze all others.
    """
    ends = [v for p in case.percentiles for v in (p.value_ms, p.high_ms) if v is not None]
    runs = sorted(case.latencies_ms)
    if len(runs) >= 4:
        first, _, third = quantiles(runs, n=4, method="inclusive")
        runs = [v for v in runs if v <= third + _FENCE * (third - first)]
    return max([*ends, *runs[-1:], centre(case) or 0.0])


def dots(
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


def name(case: LatencyCase, y: float, width: float) -> Markup:
    shown = svg.shortened(formats.spelled(case.name), width)
    return svg.text(0, y, shown, class_="row-name halo")


def grid(marks: Sequence[tuple[float, str]], bottom: float) -> Markup:
    """A vertical line and a label below for each (x in pixels, words)."""
    lines = [svg.line(x, 0, x, bottom, class_="grid") for x, _ in marks]
    texts = [
        svg.text(x, bottom + 18, words, class_="tick middle" if x > 15 else "tick")
        for x, words in marks
    ]
    return svg.group(lines) + svg.group(texts)
