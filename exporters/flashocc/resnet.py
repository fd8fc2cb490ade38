"""Bottleneck ResNet with torchvision's parameter names (arXiv:1512.03385, stride on the 3x3)."""

from __future__ import annotations

from torch import Tensor, nn

from exporters.flashocc.config import Backbone

_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 around a shortcut, to ``4 * width`` channels."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu3 = nn.ReLU()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        out: Tensor = self.relu3(self.bn3(self.conv3(y)) + shortcut)
        return out


class ResNet(nn.Module):
    """``[N, 3, H, W]`` to the features of the last two stages, strides 16 and 32.

    :meth:`features` has those of all stages.
    """

    def __init__(self, config: Backbone) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = config.stem
        for stage, blocks in enumerate(config.blocks):
            width = config.stem * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            layer = nn.Sequential()
            for stride in strides:
                layer.append(Bottleneck(inputs, width, stride))
                inputs = width * _EXPANSION
            self.add_module(f"layer{stage + 1}", layer)
        self.stages = len(config.blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features[-2], features[-1]

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of every stage, strides 4, 8, 16 and 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            features.append(x)
        return features
