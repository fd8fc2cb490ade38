"""Weights that come with edgeport for FlashOcc: one file serves both miniatures.

``training/flashocc_mini.py`` made it; ``flashocc-mini`` leaves the centre head out.
"""

from __future__ import annotations

from pathlib import Path

from exporters.shipped import Shipped

SHIPPED = Shipped(
    Path(__file__).parent / "trained",
    {"flashocc-mini": "mini.safetensors", "panoptic-flashocc-mini": "mini.safetensors"},
    "its own grid, classes and depth bins",
)
