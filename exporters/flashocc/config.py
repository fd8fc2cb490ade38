"""What distinguishes one FlashOcc network from another: widths, depth bins, grid, classes.

Everything that shows in the tensor shapes of a checkpoint is recognised from them
(``exporters.flashocc.weights.recognise``); image size, metric ranges and class names do not show
and are options. Values of M0 and M1 are those of FlashOcc, upstream commit 4084861.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporters.errors import UserError
from exporters.flashocc.geometry import Grid, View

NUSCENES_CAMERAS = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)
"""The order of the images; the first camera defines the key ego frame."""

FREE = "free"
OCC3D_CLASSES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    FREE,
)

# Upstream swaps the channels of an image that is RGB already, so the planes are B, G, R while the
# ImageNet statistics stay in R, G, B order. Official weights expect exactly that.
PLANE_MEAN = (123.675, 116.28, 103.53)
PLANE_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Backbone:
    """A bottleneck ResNet.

    Attributes:
        stem: channels after the 7x7 convolution; a stage is ``stem * (4, 8, 16, 32)`` wide.
        blocks: bottlenecks per stage, ``(3, 4, 6, 3)`` for ResNet-50.
    """

    stem: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.stem * 4 * 2**stage for stage in range(len(self.blocks)))


@dataclass(frozen=True)
class Config:
    """One FlashOcc network.

    Attributes:
        neck: channels of the image feature that the depth net sees.
        context: channels that are lifted into the BEV map.
        encoder: channels of the three BEV encoder stages (strides 2, 4, 8).
        width: channels of the BEV feature that the occupancy head sees.
        classes: names in label order.
    """

    view: View = field(default_factory=View)
    grid: Grid = field(default_factory=Grid)
    classes: tuple[str, ...] = OCC3D_CLASSES
    backbone: Backbone = field(default_factory=Backbone)
    neck: int = 256
    context: int = 64
    encoder: tuple[int, int, int] = (128, 256, 512)
    width: int = 128

    def __post_init__(self) -> None:
        for name, cells in (("x", self.grid.nx), ("y", self.grid.ny)):
            if cells % 8:
                raise UserError(
                    f"the grid has {cells} cells in {name}; the BEV encoder halves it three times",
                    fix="Choose range and step so that the number of cells is a multiple of 8",
                )
        if not 2 <= len(self.classes) <= 256:
            raise UserError(f"{len(self.classes)} classes; labels are uint8, so 2 to 256 fit")
        if len(set(self.classes)) != len(self.classes):
            raise UserError("a class name occurs twice", fix="Give every class its own name")

    @property
    def free_class(self) -> int:
        """Index of the class that means empty space; the last one where none is called free."""
        return self.classes.index(FREE) if FREE in self.classes else len(self.classes) - 1

    @property
    def head_channels(self) -> int:
        """Height slices times classes."""
        return self.grid.nz_out * len(self.classes)

    def network_json(self) -> dict[str, Any]:
        """Widths of the layers; view, grid and classes are described elsewhere."""
        return {
            "backbone": {"stem": self.backbone.stem, "blocks": list(self.backbone.blocks)},
            "neck": self.neck,
            "context": self.context,
            "encoder": list(self.encoder),
            "width": self.width,
        }


M0 = Config()
M1 = Config(view=View(depth=(1.0, 45.0, 0.5)), width=256)
MINI = Config(
    view=View(image_size=(192, 512)),
    backbone=Backbone(stem=16, blocks=(1, 2, 2, 1)),
    neck=64,
    context=48,
    encoder=(64, 96, 128),
    width=48,
)
"""A twentieth of M0's parameters on the same grid; small enough to be trained on a processor."""

NANO = Config(
    view=View(image_size=(64, 176), depth=(1.0, 45.0, 2.0)),
    grid=Grid(x=(-40.0, 40.0, 2.0), y=(-40.0, 40.0, 2.0), z_out=(-1.0, 5.4, 1.6)),
    backbone=Backbone(stem=8, blocks=(1, 1, 1, 1)),
    neck=32,
    context=16,
    encoder=(32, 64, 128),
    width=32,
)
"""The same architecture with a thousandth of the arithmetic: for tests and for trying things."""

CONFIGS: Mapping[str, Config] = {
    "flashocc-m0": M0,
    "flashocc-m1": M1,
    "flashocc-mini": MINI,
    "flashocc-nano": NANO,
}
