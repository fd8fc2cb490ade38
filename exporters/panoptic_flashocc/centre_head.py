"""Centre head: which cells of the BEV map hold the centre of an object, and of which kind.

Panoptic-FlashOcc (arXiv:2406.10527) adds it beside the occupancy head. It is CenterPoint's head
(arXiv:2006.11275) with all its branches; three of them say where an instance is, the others (size,
heading, velocity) were trained with weight zero and are kept because checkpoints carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from exporters.flashocc.layers import ConvNormReLU
from exporters.panoptic_flashocc.config import HEAD_CLASSES

_BRANCHES: Mapping[str, int] = MappingProxyType(
    {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": len(HEAD_CLASSES)}
)


class CentreMaps(NamedTuple):
    """What the centre head says of every BEV cell.

    Attributes:
        reg: ``[1, 2, ny, nx]``, how far the centre lies from the cell's lower corner in x and y,
            in cells (0 to 1 where the network is right).
        height: ``[1, 1, ny, nx]``, z of the centre in the ego frame, metres.
        heatmap: ``[1, 10, ny, nx]``, logits that a centre of each of ``HEAD_CLASSES`` is here.
    """

    reg: Tensor
    height: Tensor
    heatmap: Tensor


class CenternessHead(nn.Module):
    """``Centerness_Head`` upstream: BEV feature ``[1, inputs, ny, nx]`` to :class:`CentreMaps`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.shared_conv = ConvNormReLU(inputs, width)
        branches = {
            name: nn.Sequential(ConvNormReLU(width, width), nn.Conv2d(width, k, 3, padding=1))
            for name, k in _BRANCHES.items()
        }
        self.task_heads = nn.ModuleList([nn.ModuleDict(branches)])

    def forward(self, bev: Tensor) -> CentreMaps:
        shared = self.shared_conv(bev)
        return CentreMaps(
            *(self.get_submodule(f"task_heads.0.{name}")(shared) for name in CentreMaps._fields)
        )
