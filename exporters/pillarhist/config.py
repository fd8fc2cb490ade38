"""What distinguishes one pillar detector from another: grid, encoder, widths, head.

Values are those of OpenPCDet (commit 8cacccec): ``kitti_models/pointpillar.yaml`` and
``nuscenes_models/cbgs_dyn_pp_centerpoint.yaml``. PillarHist (Zhou et al., CVPR 2025,
arXiv:2405.18734) replaces the encoder and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from exporters.errors import UserError, did_you_mean

CountMode = Literal["raw", "clip8", "log1p"]
XyMode = Literal["metre", "unit"]
Projection = Literal["linear", "linear_bn_relu"]

CHOICES = {
    "count_mode": ("raw", "clip8", "log1p"),
    "xy_mode": ("metre", "unit"),
    "proj": ("linear", "linear_bn_relu"),
    "nms": ("rotated", "peak", "none"),
    "surplus": ("refuse", "thin"),
}

_MOST_PILLARS = 1 << 20
"""Beyond any grid in use; times bins it stays below 2^31."""

KITTI_COLUMNS = ("x", "y", "z", "intensity")
NUSCENES_COLUMNS = (*KITTI_COLUMNS, "time")


@dataclass(frozen=True)
class PillarGrid:
    """Where points count, and how the ground is cut into pillars.

    Attributes:
        low, high: x, y, z in metres; points are taken from ``low`` on and below ``high``.
        cell: of a pillar in x and y, metres.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    cell: tuple[float, float]

    @property
    def nx(self) -> int:
        return round((self.high[0] - self.low[0]) / self.cell[0])

    @property
    def ny(self) -> int:
        return round((self.high[1] - self.low[1]) / self.cell[1])

    @property
    def pillars(self) -> int:
        return self.nx * self.ny

    def steps(self, bins: int = 1) -> tuple[float, float, float]:
        """Of x, y and a height bin, metres."""
        return (*self.cell, (self.high[2] - self.low[2]) / bins)


@dataclass(frozen=True)
class Histogram:
    """The PillarHist encoder.

    Attributes:
        bins: of equal height over the range in z; the paper has 64.
        count_mode: ``raw`` n, ``clip8`` min(n, 8) / 8, or ``log1p`` log(1 + n).
        xy_mode: pillar centres in metres, or over the grid's largest magnitude (``unit``).
        proj: a linear layer with bias, or one without followed by BatchNorm and ReLU.
        width: channels.
        pillars: that may have points; rows of the encoder. A whole turn of KITTI's LiDAR has 5,000
            to 17,000.
    """

    bins: int = 64
    count_mode: CountMode = "clip8"
    xy_mode: XyMode = "unit"
    proj: Projection = "linear_bn_relu"
    width: int = 64
    pillars: int = 24_576

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= 256:
            raise UserError(f"{self.bins} height bins", fix="Choose 1 to 256; the paper has 64")
        if not 1 <= self.pillars <= _MOST_PILLARS:
            raise UserError(f"--max-pillars {self.pillars}", fix=f"Choose 1 to {_MOST_PILLARS}")
        for name in ("count_mode", "xy_mode", "proj"):
            value = getattr(self, name)
            if value not in CHOICES[name]:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is {value!r}", fix=did_you_mean(value, CHOICES[name]))

    def rows(self, points: int) -> int:
        """Pillars that this many points can have, as far as there is room for them."""
        return min(self.pillars, points)


@dataclass(frozen=True)
class HardPillars:
    """PointPillars' encoder: the first ``points`` of a pillar in order of arrival."""

    points: int = 32
    pillars: int = 40_000
    width: int = 64


@dataclass(frozen=True)
class DynamicPillars:
    """The encoder without caps: two layers, each with the maximum over all points of a pillar."""

    widths: tuple[int, int] = (32, 64)

    @property
    def width(self) -> int:
        return self.widths[-1]


Encoder = Histogram | HardPillars | DynamicPillars


@dataclass(frozen=True)
class Backbone:
    """Stages of 3x3 convolutions, each brought to one resolution and put side by side.

    Attributes:
        layers: convolutions after the first one of each stage.
        ups: resampling of each stage; below 1 a strided convolution.
    """

    layers: tuple[int, ...] = (3, 5, 5)
    strides: tuple[int, ...] = (2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256)
    ups: tuple[float, ...] = (1, 2, 4)
    up_width: int = 128

    @property
    def width(self) -> int:
        return self.up_width * len(self.ups)

    @property
    def stride(self) -> int:
        """Of the output, in pillars."""
        return round(self.strides[0] / self.ups[0])


@dataclass(frozen=True)
class AnchorClass:
    """``size``: length, width, height; ``bottom``: z of the underside; metres."""

    size: tuple[float, float, float]
    bottom: float


@dataclass(frozen=True)
class AnchorHead:
    """Two anchors a class at every cell, at yaw 0 and 1.57 where ``rotations`` says nothing else.

    Attributes:
        direction_offset: radians; yaw is told apart by halves of the circle from there on.
        middles: anchors stand in the middles of cells; else they are spread over the range with
            both its edges, as OpenPCDet's on KITTI.
        iou: of two boxes seen from above, beyond which the lower score goes.
        score: the lowest one of a box.
    """

    anchors: tuple[AnchorClass, ...] = (
        AnchorClass((3.9, 1.6, 1.56), -1.78),
        AnchorClass((0.8, 0.6, 1.73), -0.6),
        AnchorClass((1.76, 0.6, 1.73), -0.6),
    )
    rotations: tuple[float, ...] = (0.0, 1.57)
    direction_offset: float = 0.78539
    middles: bool = False
    iou: float = 0.01
    score: float = 0.1

    @property
    def per_cell(self) -> int:
        return len(self.anchors) * len(self.rotations)


@dataclass(frozen=True)
class CentreHead:
    """A heat map a class; boxes are read where it is high.

    Attributes:
        tasks: class names of each sub-head.
        shared: channels of the convolution before the sub-heads.
        velocity: whether boxes have one.
        kept: of each sub-head at most after suppression.
        centre_low, centre_high: where a box's centre may be, metres.
    """

    tasks: tuple[tuple[str, ...], ...]
    centre_low: tuple[float, float, float]
    centre_high: tuple[float, float, float]
    shared: int = 64
    velocity: bool = True
    iou: float = 0.2
    score: float = 0.1
    kept: int = 83

    @property
    def branches(self) -> dict[str, int]:
        """Channels of what a sub-head predicts besides its heat maps, in upstream's order."""
        sizes = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
        return {**sizes, "vel": 2} if self.velocity else sizes


@dataclass(frozen=True)
class Config:
    """One detector.

    Attributes:
        columns: of a point; time is the lag behind the key frame in seconds.
        intensity_max: what a full return has.
        ego_m: returns with |x| and |y| below are the vehicle's own and left out; 0 for none.
        rows: of the input.
        view: KITTI's points of the camera's view, or all.
        candidates: boxes that suppression looks at, of each sub-head.
        boxes: rows of the output.
    """

    grid: PillarGrid
    encoder: Encoder
    backbone: Backbone
    head: AnchorHead | CentreHead
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    intensity_max: float
    rows: int
    ego_m: float = 0.0
    view: str = "all"
    candidates: int = 500
    boxes: int = 500

    def __post_init__(self) -> None:
        stride = 1
        for value in self.backbone.strides:
            stride *= value
        for axis, cells in (("x", self.grid.nx), ("y", self.grid.ny)):
            if cells % stride:
                raise UserError(
                    f"the grid has {cells} pillars in {axis}; the backbone divides by {stride}",
                    fix=f"Choose range and cell so that their number is a multiple of {stride}",
                )
        if self.rows < 1 or self.candidates < 1 or self.boxes < 1:
            raise UserError("rows, candidates and boxes are at least 1")
        if self.candidates > TOPK_LIMIT:
            raise UserError(
                f"--candidates {self.candidates}: TensorRT sorts at most {TOPK_LIMIT}",
                fix=f"Choose at most {TOPK_LIMIT}",
            )

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows (y) and columns (x) of the head's maps."""
        return self.grid.ny // self.backbone.stride, self.grid.nx // self.backbone.stride

    @property
    def box_columns(self) -> tuple[str, ...]:
        velocity = isinstance(self.head, CentreHead) and self.head.velocity
        names = ("x", "y", "z", "length", "width", "height", "yaw")
        return (*names, "vx", "vy") if velocity else names

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


TOPK_LIMIT = 3840
"""The largest K that TensorRT's TopK takes."""

_KITTI_GRID = PillarGrid((0.0, -39.68, -3.0), (69.12, 39.68, 1.0), (0.16, 0.16))
_NUSCENES_GRID = PillarGrid((-51.2, -51.2, -5.0), (51.2, 51.2, 3.0), (0.2, 0.2))
_MINI_GRID = PillarGrid((0.0, -25.6, -3.0), (51.2, 25.6, 1.0), (0.32, 0.32))

_TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)

KITTI = Config(
    grid=_KITTI_GRID,
    encoder=HardPillars(),
    backbone=Backbone(),
    head=AnchorHead(),
    classes=("Car", "Pedestrian", "Cyclist"),
    columns=KITTI_COLUMNS,
    intensity_max=1.0,
    rows=32_768,
    view="camera",
)
NUSCENES = Config(
    grid=_NUSCENES_GRID,
    encoder=DynamicPillars(),
    backbone=Backbone(ups=(0.5, 1, 2)),
    head=CentreHead(_TASKS, (-61.2, -61.2, -10.0), (61.2, 61.2, 10.0)),
    classes=tuple(name for task in _TASKS for name in task),
    columns=NUSCENES_COLUMNS,
    intensity_max=255.0,
    rows=300_000,
    boxes=498,
)
MINI = Config(
    grid=_MINI_GRID,
    encoder=HardPillars(pillars=8_000, width=16),
    backbone=Backbone((1, 2, 2), (2, 2, 2), (16, 32, 64), (1, 2, 4), 16),
    head=CentreHead(
        (KITTI.classes,),
        (0.0, -25.6, -3.0),
        (51.2, 25.6, 2.0),
        shared=32,
        velocity=False,
        kept=100,
    ),
    classes=KITTI.classes,
    columns=KITTI_COLUMNS,
    intensity_max=1.0,
    rows=24_576,
    view="camera",
    candidates=100,
    boxes=100,
)
"""About a hundredth of the arithmetic, to be trained on a CPU."""

CONFIGS: Mapping[str, Config] = {
    "pointpillars-kitti": KITTI,
    "pillarhist-pointpillars-kitti": replace(KITTI, encoder=Histogram()),
    "centerpoint-pillar-nuscenes": NUSCENES,
    "pillarhist-centerpoint-nuscenes": replace(
        NUSCENES, encoder=Histogram(pillars=65_536), ego_m=1.0
    ),
    "pointpillars-mini": MINI,
    "pillarhist-mini": replace(MINI, encoder=Histogram(bins=16, width=16)),
}
