"""What distinguishes the two stereo networks of FlashOcc, M2 and M3 (upstream commit 4084861)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from exporters.flashocc.config import Config
from exporters.flashocc.geometry import View


@dataclass(frozen=True)
class Swin:
    """A Swin Transformer (arXiv:2103.14030); a stage has twice the channels of the one before.

    Attributes:
        width: channels of the first stage.
        blocks: of every stage.
        heads: of every stage.
        window: side of the windows in tokens.
    """

    width: int = 128
    blocks: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 12

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * 2**stage for stage in range(len(self.blocks)))


@dataclass(frozen=True)
class StereoConfig(Config):
    """A FlashOcc that compares each camera's picture with the one before.

    Attributes:
        swin: the backbone in place of the ResNet, where there is one.
    """

    swin: Swin | None = None

    @property
    def image_widths(self) -> tuple[int, int, int]:
        """Channels of the stereo feature (stride 4) and of the neck's inputs (16 and 32)."""
        widths = self.backbone.widths if self.swin is None else self.swin.widths
        return widths[0], widths[-2], widths[-1]

    def network_json(self) -> dict[str, Any]:
        found = super().network_json()
        if self.swin is not None:
            found["backbone"] = dataclasses.asdict(self.swin)
        return found


M2 = StereoConfig(
    view=View(depth=(1.0, 45.0, 0.5), spacing="log"),
    context=80,
    encoder=(160, 320, 640),
    width=256,
)
M3 = dataclasses.replace(
    M2,
    view=View(image_size=(512, 1408), depth=(1.0, 45.0, 0.5)),
    neck=512,
    swin=Swin(),
)

CONFIGS: Mapping[str, StereoConfig] = MappingProxyType({"flashocc-m2": M2, "flashocc-m3": M3})
