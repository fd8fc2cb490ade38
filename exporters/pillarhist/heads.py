"""The two detection heads as trained, with OpenPCDet's names; boxes are decoded elsewhere."""

from __future__ import annotations

import math

from torch import Tensor, nn

from exporters.pillarhist.config import AnchorHead, CentreHead


class AnchorHeadSingle(nn.Module):
    """Per cell and anchor: logits of the classes, seven box terms, two direction logits.

    Channels of ``[1, anchors * n, H, W]`` are anchor-major.
    """

    def __init__(self, inputs: int, config: AnchorHead) -> None:
        super().__init__()
        classes, anchors = len(config.anchors), config.per_cell
        self.conv_cls = nn.Conv2d(inputs, anchors * classes, 1)
        self.conv_box = nn.Conv2d(inputs, anchors * 7, 1)
        self.conv_dir_cls = nn.Conv2d(inputs, anchors * 2, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.conv_cls(features), self.conv_box(features), self.conv_dir_cls(features)


class SeparateHead(nn.Module):
    """One sub-head: a small convolutional branch for each thing it predicts."""

    def __init__(self, inputs: int, branches: dict[str, int]) -> None:
        super().__init__()
        self.names = tuple(branches)
        for name, outputs in branches.items():
            hidden = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=1), nn.BatchNorm2d(inputs), nn.ReLU()
            )
            self.add_module(name, nn.Sequential(hidden, nn.Conv2d(inputs, outputs, 3, padding=1)))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {name: self.get_submodule(name)(features) for name in self.names}


class CenterHead(nn.Module):
    """Per sub-head: ``center`` (offset in cells), ``center_z``, ``dim`` (log), ``rot`` (cos, sin).

    Also ``vel`` where the data has velocities, and ``hm``: logits of the classes.
    """

    def __init__(self, inputs: int, config: CentreHead) -> None:
        super().__init__()
        self.shared_conv = nn.Sequential(
            nn.Conv2d(inputs, config.shared, 3, padding=1), nn.BatchNorm2d(config.shared), nn.ReLU()
        )
        self.heads_list = nn.ModuleList(
            SeparateHead(config.shared, {**config.branches, "hm": len(task)})
            for task in config.tasks
        )

    def forward(self, features: Tensor) -> tuple[dict[str, Tensor], ...]:
        shared = self.shared_conv(features)
        return tuple(head(shared) for head in self.heads_list)


def start_biases(head: AnchorHeadSingle | CenterHead) -> None:
    """What training starts from: almost everything is background."""
    if isinstance(head, AnchorHeadSingle):
        nn.init.constant_(head.conv_cls.get_parameter("bias"), -math.log(99))
        nn.init.normal_(head.conv_box.weight, std=0.001)
        return
    for task in head.heads_list:
        nn.init.constant_(task.get_parameter("hm.1.bias"), -2.19)
