"""A distribution the size of a word: bars over what was seen, shaded where it is clipped."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg

_WIDTH, _HEIGHT = 120, 26


def bars(
    heights: Sequence[int],
    seen: tuple[float, float],
    represented: tuple[float, float] | None = None,
) -> Markup:
    """Bars of ``heights`` per cent over ``seen``; nothing where there are none.

    Args:
        represented: the range that integers stand for; what lies beyond is shaded.
    """
    if not heights:
        return Markup("")
    step = _WIDTH / len(heights)
    tops = (_HEIGHT * (1 - min(height, 100) / 100) for height in heights)
    outline = "".join(f"V{top:.1f}h{step:.3g}" for top in tops)
    parts = [svg.element("path", d=f"M0 {_HEIGHT}{outline}V{_HEIGHT}z", class_="bars-of")]
    x = svg.Scale(*seen, 0, _WIDTH)
    if represented is not None:
        low, high = (min(max(x(v), 0), _WIDTH) for v in represented)
        for start, end in ((0, low), (high, _WIDTH)):
            if end - start > 0.05:
                parts.append(
                    svg.element(
                        "rect", x=start, y=0, width=end - start, height=_HEIGHT, class_="cut"
                    )
                )
    if seen[0] < 0 < seen[1]:
        parts.append(svg.line(x(0), 0, x(0), _HEIGHT, class_="origin"))
    low_text, high_text = (formats.number(value) for value in seen)
    return svg.element(
        "svg",
        svg.group(parts),
        class_="thumbnail",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"distribution between {low_text} and {high_text}",
    )
