"""The few SVG pieces that every chart is made of.

A chart is drawn twice, for wide and for narrow screens, and CSS shows the one that fits: an SVG
that merely shrinks would have unreadable text on a phone. Text from the report is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

Attribute = str | float | None

WIDE, NARROW = 1020, 380


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """At most ``count`` + 1 round values in the range: multiples of 1, 2 or 5 times 10^k."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def element(name: str, content: str | Markup = "", **attributes: Attribute) -> Markup:
    """One element; ``class_`` is ``class`` and other underscores are hyphens, None is left out."""
    return _element(name, content, attributes)


def _element(name: str, content: str | Markup, attributes: Mapping[str, Attribute]) -> Markup:
    pairs = (
        (key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(f' {key}="{escape(value)}"' for key, value in pairs)
    return Markup(f"<{name}{inside}>{escape(content)}</{name}>")


def group(items: Iterable[Markup], **attributes: Attribute) -> Markup:
    return _element("g", Markup("").join(items), attributes)


def text(x: float, y: float, content: str, **attributes: Attribute) -> Markup:
    return _element("text", content, {"x": x, "y": y, **attributes})


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Attribute) -> Markup:
    return _element("line", "", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, **attributes})


def title(content: str) -> Markup:
    """What a pointer resting on the element reads."""
    return element("title", content)


def picture(draw: Callable[[int], tuple[Markup, float]], label: str) -> Markup:
    """``draw(width)`` -> (content, height), at both widths, as one accessible figure body."""
    drawn = []
    for width, kind in ((WIDE, "wide"), (NARROW, "narrow")):
        content, height = draw(width)
        drawn.append(
            element(
                "svg",
                content,
                class_=f"chart {kind}",
                viewBox=f"0 0 {width} {round(height, 1)}",
                role="img",
                aria_label=label,
            )
        )
    return Markup("").join(drawn)


def shortened(content: str, width_px: float, px_per_character: float = 6.6) -> str:
    """``content`` cut in the middle so that it fits; both ends of a node name matter."""
    room = max(6, int(width_px / px_per_character))
    if len(content) <= room:
        return content
    head = (room - 1) // 2
    return f"{content[:head]}…{content[len(content) - (room - 1 - head) :]}"
