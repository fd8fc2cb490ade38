"""RepVGG-A1 with its training-time branches (Ding et al., CVPR 2021, arXiv:2101.03697, table 2).

block:  ReLU( BN(K3 * x) + BN(K1 * x) + BN(x) )      the last where shapes allow
A1:     1 + 2 + 4 + 14 + 1 blocks; widths 64 | 64 | 128 | 256 | 1280 (a = 1, b = 2.5), every
        stage begins with stride 2; global average pooling and one linear layer
"""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 64, 128, 256, 1280)
DEPTHS = (1, 2, 4, 14, 1)


class RepVGGBlock(nn.Module):
    """One block before re-parameterisation."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        keeps_shape = (channels_in, stride) == (channels, 1)
        self.identity = nn.BatchNorm2d(channels) if keeps_shape else None
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm3(self.conv3(x)) + self.norm1(self.conv1(x))
        return self.relu(y if self.identity is None else y + self.identity(x))


class RepVGGA1(nn.Module):
    """[N, 3, H, W] float32 -> [N, classes] logits; H and W a multiple of 32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        blocks = []
        channels_in = 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            for index in range(depth):
                blocks.append(RepVGGBlock(channels_in, width, 1 if index else 2))
                channels_in = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels_in, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.blocks(x)).flatten(1))
