"""Occupancy head: height and class are channels (channel-to-height, FlashOcc, arXiv:2311.12058).

Two forms of the same function. ``BEVOCCHead2D`` is the one that was trained: it swaps the BEV axes
and applies two linear layers to the last axis. ``OccupancyHead`` is the one that is deployed: it
stays in channels-first order, its linear layers are 1x1 convolutions, and axes move only at the
very end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.flashocc.layers import ConvModule


class BEVOCCHead2D(nn.Module):
    """``[1, width, ny, nx]`` to logits ``[nx, ny, nz, classes]``.

    Output channel k of the last layer is class ``k % classes`` at height ``k // classes``, lowest
    slice first.
    """

    def __init__(self, width: int, heights: int, classes: int) -> None:
        super().__init__()
        self.heights, self.classes = heights, classes
        self.final_conv = ConvModule(width, width, 3, relu=True)
        self.predicter = nn.Sequential(
            nn.Linear(width, 2 * width), nn.Softplus(), nn.Linear(2 * width, heights * classes)
        )

    def forward(self, bev: Tensor) -> Tensor:
        columns = self.final_conv(bev).permute(0, 3, 2, 1)
        logits: Tensor = self.predicter(columns).squeeze(0)
        return logits.reshape(*logits.shape[:2], self.heights, self.classes)


class OccupancyHead(nn.Module):
    """Channels-first form of a ``BEVOCCHead2D``, which it shares its weights with.

    Args:
        head: the trained form.
        labels: whether to return labels ``[nx, ny, nz]`` uint8 in place of the logits. A frame has
            11.5 M logits (46 MB) but 640,000 labels, so argmax belongs into the graph.
    """

    def __init__(self, head: BEVOCCHead2D, *, labels: bool) -> None:
        super().__init__()
        self.heights, self.classes, self.labels = head.heights, head.classes, labels
        self.final_conv = head.final_conv
        layers = (_pointwise(m) if isinstance(m, nn.Linear) else m for m in head.predicter)
        self.predicter = nn.Sequential(*layers)

    def volume(self, bev: Tensor) -> Tensor:
        """Logits in the order in which they are computed, ``[nz, classes, ny, nx]``."""
        channels: Tensor = self.predicter(self.final_conv(bev))
        return channels.reshape(self.heights, self.classes, *channels.shape[2:])

    def forward(self, bev: Tensor) -> Tensor:
        volume = self.volume(bev)
        if not self.labels:
            return volume.permute(3, 2, 0, 1)
        # TensorRT cannot transpose uint8, so the cast comes last.
        return volume.argmax(1).permute(2, 1, 0).to(torch.uint8)


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """The 1x1 convolution that equals ``linear`` on the channel axis."""
    outputs, inputs = linear.weight.shape
    conv = nn.Conv2d(inputs, outputs, 1, device="meta")
    conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], requires_grad=False)
    conv.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return conv
