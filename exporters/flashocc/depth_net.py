"""DepthNet: depth and context of an image feature, told which camera took it (arXiv:2206.10092).

27 numbers of every camera (``exporters.flashocc.camera_vectors``) pass through two small networks
whose sigmoid outputs scale the channels of the image feature: one gate for the depth branch, one
for the context branch. The depth branch then sees far through dilated convolutions (ASPP,
arXiv:1706.05587). For a fixed rig both gates are constants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.flashocc.camera_vectors import CAMERA_VALUES
from exporters.flashocc.layers import BasicBlock

ASPP_WIDTH = 96
_DILATIONS = (1, 6, 12, 18)


class _Branches(nn.Module):
    """The two branches, once their gates are known."""

    reduce_conv: nn.Sequential
    depth_conv: nn.Sequential
    context_conv: nn.Conv2d
    cost_volumn_net: nn.Sequential | None

    def gated(
        self, features: Tensor, depth_gate: Tensor, context_gate: Tensor, cost: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = self.reduce_conv(features)
        depth = x * depth_gate
        if self.cost_volumn_net is not None:
            depth = torch.cat([depth, self.cost_volumn_net(cost)], dim=1)
        return self.depth_conv(depth), self.context_conv(x * context_gate)


class DepthNet(_Branches):
    """``[N, inputs, fH, fW]`` and cameras ``[N, 27]`` to depth logits and context features.

    Args:
        width: channels inside; upstream's networks have as many as ``inputs``.
        depth_bins: channels of the first result ``[N, depth_bins, fH, fW]``.
        stereo: whether a cost volume ``[N, depth_bins, 4 fH, 4 fW]`` of an earlier frame helps.
        context: channels of the second result ``[N, context, fH, fW]``; it has no activation.
    """

    def __init__(
        self, inputs: int, width: int, context: int, depth_bins: int, *, stereo: bool = False
    ) -> None:
        super().__init__()
        self.reduce_conv = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.context_conv = nn.Conv2d(width, context, 1)
        self.bn = nn.BatchNorm1d(CAMERA_VALUES)
        self.depth_mlp, self.depth_se = Mlp(CAMERA_VALUES, width), SELayer(width)
        self.context_mlp, self.context_se = Mlp(CAMERA_VALUES, width), SELayer(width)
        self.cost_volumn_net = _cost_net(depth_bins) if stereo else None
        first = BasicBlock(width, width)
        if stereo:
            both = width + depth_bins
            first = BasicBlock(both, width, shortcut=nn.Conv2d(both, width, 1))
        self.depth_conv = nn.Sequential(
            first,
            *(BasicBlock(width, width) for _ in range(2)),
            ASPP(width),
            nn.Conv2d(width, depth_bins, 1),
        )

    def forward(
        self, features: Tensor, cameras: Tensor, cost: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        depth_gate, context_gate = self.gates(cameras)
        return self.gated(features, depth_gate, context_gate, cost)

    def gates(self, cameras: Tensor) -> tuple[Tensor, Tensor]:
        """Gates ``[N, width, 1, 1]`` of the depth and of the context branch, 0 to 1."""
        vectors = self.bn(cameras)
        return self.depth_se(self.depth_mlp(vectors)), self.context_se(self.context_mlp(vectors))


def _cost_net(channels: int) -> nn.Sequential:
    """From stride 4 to stride 16, without any activation; its name upstream is misspelt."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, 2, 1),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 3, 2, 1),
        nn.BatchNorm2d(channels),
    )


class Mlp(nn.Module):
    """Two linear layers, ``[N, inputs] -> [N, width]``."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.relu(self.fc1(x)))
        return y


class SELayer(nn.Module):
    """A gate for every channel, ``[N, width] -> [N, width, 1, 1]`` (arXiv:1709.01507)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(width, width, 1)
        self.relu = nn.ReLU()
        self.conv_expand = nn.Conv2d(width, width, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_expand(self.relu(self.conv_reduce(x[:, :, None, None])))
        gate: Tensor = self.sigmoid(y)
        return gate


class ASPP(nn.Module):
    """Four dilations and the mean of the whole map, side by side, then mixed; keeps the shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for index, dilation in enumerate(_DILATIONS, start=1):
            self.add_module(f"aspp{index}", AtrousConv(width, ASPP_WIDTH, dilation))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, ASPP_WIDTH, 1, bias=False),
            nn.BatchNorm2d(ASPP_WIDTH),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(ASPP_WIDTH * (len(_DILATIONS) + 1), width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"aspp{i}")(x) for i in range(1, len(_DILATIONS) + 1)]
        mean = self.global_avg_pool(x).expand(-1, -1, x.shape[2], x.shape[3])
        y: Tensor = self.relu(self.bn1(self.conv1(torch.cat([*branches, mean], dim=1))))
        return y


class AtrousConv(nn.Module):
    """One branch of :class:`ASPP`: 1x1 for dilation 1, else a dilated 3x3."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        kernel, padding = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(
            inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.bn(self.atrous_conv(x)))
        return y


class FixedDepthNet(_Branches):
    """A DepthNet for cameras that never change: the gates are constants. Shares its weights."""

    def __init__(self, trained: DepthNet, cameras: Tensor) -> None:
        super().__init__()
        self.reduce_conv = trained.reduce_conv
        self.depth_conv, self.context_conv = trained.depth_conv, trained.context_conv
        self.cost_volumn_net = trained.cost_volumn_net
        with torch.no_grad():
            depth_gate, context_gate = trained.gates(cameras)
        self.register_buffer("depth_gate", depth_gate, persistent=False)
        self.register_buffer("context_gate", context_gate, persistent=False)

    def forward(
        self,
        features: Tensor,
        cameras: Tensor | None = None,  # noqa: ARG002 - takes the place of a DepthNet
        cost: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        gates = self.get_buffer("depth_gate"), self.get_buffer("context_gate")
        return self.gated(features, *gates, cost)


def fold_camera_norm(module: DepthNet) -> None:
    """Fold the BatchNorm of the camera vectors, in place, into the two layers that follow it.

    ``W (x s + b) + c = (W s) x + (c + W b)`` with ``s = g / sqrt(v + eps)``, ``b = beta - m s``.
    """
    norm = module.bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        for mlp in (module.depth_mlp, module.context_mlp):
            mlp.fc1.bias.add_(mlp.fc1.weight @ shift)
            mlp.fc1.weight.mul_(scale)
    module.bn = nn.Identity()  # type: ignore[assignment]  # nothing is left to do
