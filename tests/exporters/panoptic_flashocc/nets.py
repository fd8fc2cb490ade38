"""Networks of thirty thousand parameters with every part of the large ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from exporters.flashocc.config import Backbone
from exporters.flashocc.exporter import make_geometry
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.source import Source
from exporters.panoptic_flashocc.config import PanopticConfig
from exporters.panoptic_flashocc.exporter import build_network
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from exporters.panoptic_flashocc.options import PanopticOptions

GRID = Grid(x=(-16.0, 16.0, 2.0), y=(-24.0, 24.0, 2.0), z_out=(-1.0, 5.4, 1.6))
SMALL = PanopticConfig(
    view=View(image_size=(32, 64), depth=(1.0, 45.0, 4.0)),
    grid=GRID,
    backbone=Backbone(stem=4, blocks=(1, 1, 1, 1)),
    neck=8,
    context=8,
    encoder=(8, 8, 16),
    width=8,
    centres=True,
    centre_width=8,
)
OPTIONS: dict[str, Any] = {
    "image_size": "32x64",
    "depth": "1:45:4",
    "grid": "-16:16:2,-24:24:2,-1:5.4:1.6",
}
"""What does not show in the shapes of a checkpoint of ``SMALL``."""


def remembering(frames: int) -> PanopticConfig:
    return dataclasses.replace(SMALL, history=frames)


def random_network(
    config: PanopticConfig, options: PanopticOptions | None = None
) -> PanopticFlashOcc:
    chosen = options or PanopticOptions()
    source = Source("panoptic-flashocc", config, None, 0)
    network, _ = build_network(source, make_geometry(config, chosen))
    return network


def saved(network: PanopticFlashOcc, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save({"state_dict": network.state_dict(), "epoch": 24, "updates": 1}, path)
    return path
