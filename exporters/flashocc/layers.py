"""The building blocks that several parts share, with the attribute names of mmcv and mmdet."""

from __future__ import annotations

from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution with bias and optional ReLU, ``[N, inputs, H, W] -> [N, outputs, H, W]``.

    mmcv's wrapper of the same name keeps the convolution under ``conv`` and adds a ReLU unless
    told not to, which is easy to overlook in ``occ_head.final_conv``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.activate = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activate(self.conv(x))
        return y


class ConvNormReLU(nn.Module):
    """3x3 convolution, BatchNorm and ReLU, ``[N, inputs, H, W] -> [N, outputs, H, W]``.

    mmcv's ConvModule with a norm: the parts are ``conv`` and ``bn``.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.bn(self.conv(x)))
        return y


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Where the block changes shape the shortcut is a 3x3 convolution *with bias and without
    BatchNorm*, unlike torchvision's 1x1 with BatchNorm.

    Args:
        shortcut: another one than that, also where the block keeps its shape.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, *, shortcut: nn.Conv2d | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        if shortcut is None and (inputs != outputs or stride != 1):
            shortcut = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(y)) + shortcut)
        return out
