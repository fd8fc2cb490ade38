"""Two values of every item, in order: a hollow dot for the first, a filled one for the second.

Of layers: SQNR quantized naively, and as it was done. Of tensors: the largest magnitude seen, and
the largest that is represented, on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.quantization_schema import ActivationRange, LayerError

_HEIGHT = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 16, 34


@dataclass(frozen=True)
class Item:
    """``first`` and ``second`` in the chart's unit; None is not drawn."""

    name: str
    first: float | None
    second: float | None


def layer_errors(layers: Sequence[LayerError]) -> Markup:
    """SQNR in dB of each layer, before and after."""
    items = [Item(layer.node, layer.sqnr_before_db, layer.sqnr_after_db) for layer in layers]
    marks = [v for item in items for v in (item.first, item.second) if v is not None]
    if not marks:
        return Markup("")
    label = (
        f"SQNR of {formats.plural(len(items), 'layer')} in graph order, quantized naively and as "
        f"in this file, between {formats.number(min(marks), 1)} and "
        f"{formats.number(max(marks), 1)} dB"
    )
    ends = min(0.0, 10 * math.floor(min(marks) / 10)), 10 * math.ceil(max(marks) / 10)
    ticks = [(mark, formats.plain(mark)) for mark in svg.ticks(*ends, 5)]
    words = "SQNR in dB · input side"
    return svg.picture(
        lambda width: _draw(items, width, ends, ticks, words, lambda v: f"{v:.1f} dB"), label
    )


def magnitudes(ranges: Sequence[ActivationRange]) -> Markup:
    """The largest magnitude of each tensor: seen, and represented."""
    items = [
        Item(
            entry.tensor,
            _log(max(-entry.minimum, entry.maximum)),
            _log(max(-entry.low, entry.high)),
        )
        for entry in ranges
    ]
    marks = [v for item in items for v in (item.first, item.second) if v is not None]
    if not marks:
        return Markup("")
    label = (
        f"Largest magnitude of {formats.plural(len(items), 'tensor')} in graph order, seen and "
        f"represented, between {_power(min(marks))} and {_power(max(marks))}"
    )
    ends = float(math.floor(min(marks))), float(math.ceil(max(marks) + 1e-9))
    step = max(1, math.ceil((ends[1] - ends[0]) / 8))
    ticks = [(float(t), _power(t)) for t in range(int(ends[0]), int(ends[1]) + 1, step)]
    words = "largest magnitude, logarithmic · input side"
    return svg.picture(lambda width: _draw(items, width, ends, ticks, words, _power), label)


def _draw(
    items: Sequence[Item],
    width: int,
    ends: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
    words: str,
    read: Callable[[float], str],
) -> tuple[Markup, float]:
    x = svg.Scale(0, max(1, len(items) - 1), _LEFT + 8, width - _RIGHT - 8)
    y = svg.Scale(*ends, _HEIGHT - _BOTTOM, _TOP)
    grid = [
        svg.line(_LEFT, y(at), width - _RIGHT, y(at), class_="grid")
        + svg.text(_LEFT - 8, y(at) + 4, text, class_="tick end")
        for at, text in ticks
    ]
    size = 3.2 if len(items) * 7 < width else 2.2
    marks = [_mark(item, x(index), y, size, read) for index, item in enumerate(items)]
    bottom = _HEIGHT - 8
    texts = [
        svg.text(_LEFT, bottom, words, class_="tick"),
        svg.text(width - _RIGHT, bottom, "output side", class_="tick end"),
    ]
    return svg.group(grid) + svg.group(marks) + svg.group(texts), _HEIGHT


def _mark(item: Item, x: float, y: svg.Scale, size: float, read: Callable[[float], str]) -> Markup:
    parts = []
    if item.first is not None and item.second is not None:
        kind = "rise" if item.second >= item.first else "fall"
        parts.append(svg.line(x, y(item.first), x, y(item.second), class_=f"change {kind}"))
    for value, kind in ((item.first, "before"), (item.second, "after")):
        if value is not None:
            parts.append(svg.element("circle", cx=x, cy=y(value), r=size, class_=kind))
    readings = [formats.NOTHING if v is None else read(v) for v in (item.first, item.second)]
    return svg.group([*parts, svg.title(f"{item.name}: {readings[0]} → {readings[1]}")])


def _log(value: float) -> float | None:
    return math.log10(value) if value > 0 else None


def _power(exponent: float) -> str:
    """The number whose decimal logarithm is ``exponent``, short."""
    return formats.plain(float(f"{10.0**exponent:.3g}"))
