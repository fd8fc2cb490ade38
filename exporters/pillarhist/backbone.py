"""The 2-D backbone of SECOND and PointPillars, with OpenPCDet's names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from exporters.pillarhist.config import Backbone

EPSILON, MOMENTUM = 1e-3, 0.01


class BaseBEVBackbone(nn.Module):
    """``[1, inputs, ny, nx]`` to ``[1, config.width, ny / stride, nx / stride]``."""

    def __init__(self, inputs: int, config: Backbone) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.deblocks = nn.ModuleList()
        widths = (inputs, *config.widths)
        stages = zip(pairwise(widths), config.strides, config.layers, strict=True)
        for (before, width), stride, layers in stages:
            self.blocks.append(nn.Sequential(*_stage(before, width, stride, layers)))
        for width, up in zip(config.widths, config.ups, strict=True):
            self.deblocks.append(_resampled(width, config.up_width, up))

    def forward(self, canvas: Tensor) -> Tensor:
        ups = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            canvas = block(canvas)
            ups.append(deblock(canvas))
        return torch.cat(ups, dim=1)


def _stage(before: int, width: int, stride: int, layers: int) -> Iterator[nn.Module]:
    yield nn.ZeroPad2d(1)
    yield nn.Conv2d(before, width, 3, stride, bias=False)
    yield from _norm(width)
    for _ in range(layers):
        yield nn.Conv2d(width, width, 3, padding=1, bias=False)
        yield from _norm(width)


def _resampled(inputs: int, width: int, up: float) -> nn.Sequential:
    """By a transposed convolution, or below 1 by a strided one."""
    if up >= 1:
        size = round(up)
        conv: nn.Module = nn.ConvTranspose2d(inputs, width, size, size, bias=False)
    else:
        size = round(1 / up)
        conv = nn.Conv2d(inputs, width, size, size, bias=False)
    return nn.Sequential(conv, *_norm(width))


def _norm(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM), nn.ReLU()
