"""What distinguishes one Panoptic-FlashOcc network from another.

Values are those of the released configurations, FlashOCC upstream commit 4084861. Past frames are
nuScenes key frames, half a second apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from exporters.flashocc.config import MINI as FLASHOCC_MINI
from exporters.flashocc.config import NANO as FLASHOCC_NANO
from exporters.flashocc.config import Config
from exporters.flashocc.geometry import View

HEAD_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
"""Channels of the heatmap, in the order of upstream's training labels."""


@dataclass(frozen=True)
class PanopticConfig(Config):
    """One network of the Panoptic-FlashOcc family.

    Attributes:
        camera_aware: whether depth comes from a DepthNet that knows its cameras; otherwise from
            one 1x1 convolution as in FlashOcc M0.
        history: past frames that are fused with the current one; 0 for a single-frame network.
        centres: whether there is a centre head, and so instances.
        centre_width: channels inside the centre head.
        score_threshold: centres must score higher.
    """

    camera_aware: bool = True
    history: int = 0
    centres: bool = False
    centre_width: int = 64
    score_threshold: float = 0.3

    def network_json(self) -> dict[str, Any]:
        names = ("camera_aware", "history", "centres", "centre_width")
        return super().network_json() | {name: getattr(self, name) for name in names}


TINY = PanopticConfig()
DEPTH = PanopticConfig(
    view=View(depth=(1.0, 45.0, 0.5)), context=80, encoder=(160, 320, 640), width=256
)
TEMPORAL = dataclasses.replace(DEPTH, neck=512, history=1)


def _with_centres(base: Config, width: int) -> PanopticConfig:
    """A FlashOcc with a centre head; without it its weights are those of ``base``."""
    values = {item.name: getattr(base, item.name) for item in dataclasses.fields(Config)}
    return PanopticConfig(**values, camera_aware=False, centres=True, centre_width=width)


MINI = _with_centres(FLASHOCC_MINI, 32)
"""``flashocc-mini`` with a centre head: without ``aux_centerness_head.*`` its weights are those of
``flashocc-mini``, so both are trained in one go."""

NANO = _with_centres(FLASHOCC_NANO, 16)
"""A thousandth of the arithmetic: for tests and for trying things."""

_SEMANTIC = {
    "panoptic-flashocc-tiny": TINY,
    "panoptic-flashocc-depth": DEPTH,
    "panoptic-flashocc-4d": TEMPORAL,
    "panoptic-flashocc-8f": dataclasses.replace(TEMPORAL, history=8),
    "panoptic-flashocc-16f": dataclasses.replace(TEMPORAL, history=16, score_threshold=0.1),
}

CONFIGS: Mapping[str, PanopticConfig] = MappingProxyType(
    _SEMANTIC
    | {f"{name}-pano": dataclasses.replace(c, centres=True) for name, c in _SEMANTIC.items()}
    | {"panoptic-flashocc-mini": MINI, "panoptic-flashocc-nano": NANO}
)
