"""LiDAR boxes from above: x, the direction of travel, to the right, y to the left upwards; metres.

The short stroke in a box points to its front. Ground truth is filled, files are outlines.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from deploy.report import formats
from deploy.report.charts import svg
from deploy.report.schema import BoxesOfFile, Detection

_EDGE, _BOTTOM = 10, 26
TRUTH = "ground truth"


def kind(name: str, files: Sequence[BoxesOfFile]) -> str:
    """CSS class of a file's boxes: ``truth``, or ``of-1``, ``of-2``, … in order."""
    if name == TRUTH:
        return "truth"
    others = [file.name for file in files if file.name != TRUTH]
    return f"of-{others.index(name) + 1}"


def from_above(scene: Detection) -> Markup:
    """The points of a sample and the boxes of every file."""
    told = ", ".join(
        f"{formats.plural(len(file.boxes), 'box')} of {file.name}" for file in scene.files
    )
    label = f"{scene.sample} from above: {formats.plural(len(scene.points_m), 'point')}, {told}"
    return svg.picture(lambda width: _draw(scene, width), label)


def _draw(scene: Detection, width: int) -> tuple[Markup, float]:
    corners = [corner for file in scene.files for box in file.boxes for corner in box.corners_m]
    ends = [*scene.points_m, *corners] or [(0.0, 0.0)]
    low_x, high_x = min(x for x, _ in ends), max(x for x, _ in ends)
    low_y, high_y = min(y for _, y in ends), max(y for _, y in ends)
    scale = (width - 2 * _EDGE) / max(high_x - low_x, 1.0)
    height = (high_y - low_y) * scale + 2 * _EDGE
    x = svg.Scale(low_x, low_x + 1.0, _EDGE, _EDGE + scale)
    y = svg.Scale(low_y, low_y + 1.0, height - _EDGE, height - _EDGE - scale)
    dots = "".join(f"M{x(px):.0f} {y(py):.0f}h1" for px, py in scene.points_m)
    parts = [svg.element("path", d=dots, class_="points")]
    for file in scene.files:
        for box in file.boxes:
            ground = [(x(px), y(py)) for px, py in box.corners_m]
            outline = " ".join(f"{px:.1f},{py:.1f}" for px, py in ground)
            score = "" if box.score is None else f", score {box.score:.2f}"
            words = svg.title(f"{box.class_name} of {file.name}{score}")
            style = f"box {kind(file.name, scene.files)}"
            parts.append(svg.element("polygon", words, points=outline, class_=style))
            parts.append(_front(ground, style))
    ten = svg.line(_EDGE, height + 12, _EDGE + 10 * scale, height + 12, class_="axis")
    parts += [ten, svg.text(_EDGE + 10 * scale + 6, height + 16, "10 m", class_="tick")]
    return svg.group(parts), height + _BOTTOM


def _front(ground: Sequence[tuple[float, float]], style: str) -> Markup:
    """From the middle of a box to the middle of its front."""
    middle = [sum(corner[axis] for corner in ground) / 4 for axis in (0, 1)]
    front = [(ground[0][axis] + ground[1][axis]) / 2 for axis in (0, 1)]
    ends = (round(value, 1) for value in (*middle, *front))
    return svg.line(*ends, class_=style)
