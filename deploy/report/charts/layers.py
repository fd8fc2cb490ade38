"""Error along the graph: SQNR at every quantization boundary, in graph order, the worst named.

SQNR in dB is 10 log10(sum x^2 / sum (x - q)^2); 6 dB is one bit. An exact copy has no finite SQNR
and is drawn hollow at the top edge; a boundary that could not be measured is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from deploy.layers_alone import rank
from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.schema import Layer, LayerAlone

_HEIGHT = 300
_MARGIN_LEFT, _MARGIN_RIGHT, _TOP, _BOTTOM = 46, 12, 16, 40


def worst(layers: Sequence[Layer], count: int = 5) -> list[Layer]:
    """The ``count`` layers with the lowest SQNR, worst first; exact copies never count."""
    measured = [layer for layer in layers if _finite(layer.sqnr_db)]
    return sorted(measured, key=lambda layer: layer.sqnr_db or 0.0)[:count]


def worst_alone(layers: Sequence[LayerAlone], count: int = 5) -> list[LayerAlone]:
    """The ``count`` layers that lose most by themselves, worst first."""
    measured = [layer for layer in layers if _finite(layer.sqnr_db)]
    return sorted(measured, key=lambda layer: rank(layer.outputs_db, layer.sqnr_db or 0.0))[:count]


def is_exact(layer: Layer) -> bool:
    return layer.sqnr_db == math.inf or (layer.sqnr_db is None and layer.max_abs == 0)


def sqnr(layers: Sequence[Layer]) -> Markup:
    """A dot and stem a boundary; the five worst carry the numbers of the list beside the chart."""
    finite = _finite_values(layers)
    if not finite:
        return Markup("")
    label = (
        f"SQNR at {formats.plural(len(layers), 'quantization boundary')} in graph order, "
        f"between {formats.number(min(finite), 1)} and {formats.number(max(finite), 1)} dB"
    )
    return svg.picture(lambda width: _draw(layers, width), label)


def _draw(layers: Sequence[Layer], width: int) -> tuple[Markup, float]:
    finite = _finite_values(layers)
    floor = min(0.0, math.floor(min(finite) / 10) * 10)
    ceiling = math.ceil(max(finite) * 1.02 / 10) * 10 + 5
    x = svg.Scale(0, max(1, len(layers) - 1), _MARGIN_LEFT + 8, width - _MARGIN_RIGHT - 8)
    y = svg.Scale(floor, ceiling, _HEIGHT - _BOTTOM, _TOP)
    grid = [
        svg.line(_MARGIN_LEFT, y(t), width - _MARGIN_RIGHT, y(t), class_="grid")
        + svg.text(_MARGIN_LEFT - 8, y(t) + 4, formats.number(t), class_="tick end")
        for t in svg.ticks(floor, ceiling, 5)
    ]
    ranks = {id(layer): rank for rank, layer in enumerate(worst(layers), start=1)}
    marks = [
        _mark(layer, x(index), y, ranks.get(id(layer)))
        for index, layer in enumerate(layers)
        if _finite(layer.sqnr_db) or is_exact(layer)
    ]
    bottom = _HEIGHT - 8
    ends = [
        svg.text(_MARGIN_LEFT, bottom, "SQNR in dB · input side", class_="tick"),
        svg.text(width - _MARGIN_RIGHT, bottom, "output side", class_="tick end"),
    ]
    return svg.group(grid) + svg.group(marks) + svg.group(ends), _HEIGHT


def _mark(layer: Layer, x: float, y: svg.Scale, rank: int | None) -> Markup:
    exact = is_exact(layer)
    value = y.high if exact else layer.sqnr_db or 0.0
    kind = "exact" if exact else "worst" if rank else "plain"
    reading = "exact" if exact else f"{formats.number(layer.sqnr_db, 1)} dB"
    parts = [
        svg.line(x, y(y.low), x, y(value), class_=f"stem {kind}"),
        svg.element("circle", cx=x, cy=y(value), r=5 if rank else 3, class_=f"layer {kind}"),
        svg.title(f"{layer.node or layer.tensor} ({layer.op_type or 'tensor'}): {reading}"),
    ]
    if rank:
        parts.append(svg.text(x, y(value) - 10, str(rank), class_="rank middle"))
    return svg.group(parts)


def _finite_values(layers: Sequence[Layer]) -> list[float]:
    return [v for v in (layer.sqnr_db for layer in layers) if v is not None and math.isfinite(v)]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
