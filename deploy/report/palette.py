"""One colour a class, the same in every view of a report.

The seventeen Occ3D-nuScenes classes have fixed colours: road users saturated, surfaces muted,
structures pale. They were chosen by a search that keeps any two apart for normal sight (OKLab
distance above 0.11; Ottosson 2020) and under simulated protanopia and deuteranopia (above 0.08;
Machado et al. 2009); a test measures this again. Other classes get evenly turned hues.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

OCC3D = {
    "others": "#585a5b",
    "barrier": "#7e0d2f",
    "bicycle": "#f2a6d2",
    "bus": "#f5eb12",
    "car": "#1f7ce6",
    "construction_vehicle": "#0a6c9e",
    "motorcycle": "#c30a8e",
    "pedestrian": "#ea4218",
    "traffic_cone": "#f5860d",
    "trailer": "#92451e",
    "truck": "#662ac7",
    "driveable_surface": "#908894",
    "other_flat": "#c2aa8c",
    "sidewalk": "#b394e4",
    "terrain": "#a6d55e",
    "manmade": "#ead6cd",
    "vegetation": "#1a8e4e",
}
_SYNONYMS = {"drivable_surface": "driveable_surface", "construction": "construction_vehicle"}
_GOLDEN_TURN = 0.61803398875  # of the hue circle: successive classes land far apart


def class_colour(name: str, index: int) -> str:
    """The colour of a class as ``#rrggbb``: by its name where known, else by its index."""
    key = name.lower().replace(" ", "_").replace("-", "_")
    key = _SYNONYMS.get(key, key)
    return OCC3D[key] if key in OCC3D else _turned(index)


def class_colours(names: Sequence[str]) -> list[str]:
    return [class_colour(name, index) for index, name in enumerate(names)]


def _turned(index: int) -> str:
    lightness = (0.45, 0.6, 0.75)[index % 3]
    red, green, blue = colorsys.hls_to_rgb(index * _GOLDEN_TURN % 1.0, lightness, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
