"""The two feature pyramids: one over image features, one over BEV features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.flashocc.layers import ConvModule


class CustomFPN(nn.Module):
    """Image neck: features of stride 16 and 32 to one map ``[N, outputs, fH, fW]`` of stride 16.

    The coarse map is brought to the fine one's exact size by nearest neighbour. No normalisation
    and no activation anywhere.
    """

    def __init__(self, inputs: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, outputs, 1, relu=False) for channels in inputs
        )
        self.fpn_convs = nn.ModuleList([ConvModule(outputs, outputs, 3, relu=False)])

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        fine, coarse = self.lateral_convs[0](fine), self.lateral_convs[1](coarse)
        size = (fine.shape[2], fine.shape[3])
        out: Tensor = self.fpn_convs[0](fine + F.interpolate(coarse, size=size, mode="nearest"))
        return out


class FPN_LSS(nn.Module):  # noqa: N801 - the name it has in BEVDet and in every discussion of it
    """BEV neck: encoder stages at stride 2 and 8 to ``[1, outputs, ny, nx]``.

    Up-sampling is bilinear with ``align_corners=True`` throughout. The convolutions run at stride
    2 first and only the last two at full resolution.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inner = 2 * outputs
        self.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=True)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
        )
        self.up2 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(inner, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        out: Tensor = self.up2(self.conv(torch.cat([fine, self.up(coarse)], dim=1)))
        return out
