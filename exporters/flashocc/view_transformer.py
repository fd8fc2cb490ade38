"""Lift and splat: a depth net predicts depth and context, pooling moves them to the BEV.

Channels ``[0, D)`` of the depth net become depth probabilities by a softmax, the following ones
are context features without any activation (LSS, arXiv:2008.05711; BEVPoolv2, arXiv:2211.17111).
"""

from __future__ import annotations

from torch import Tensor, nn

from exporters.flashocc.depth_net import DepthNet


class LSSViewTransformer(nn.Module):
    """``[N, inputs, fH, fW]`` to ``[1, context, ny, nx]``.

    Attributes:
        pooling: ``(depth, context, *tables) -> bev``; it has no parameters, so it is no part of
            a checkpoint and can be exchanged when the rig changes.
    """

    def __init__(self, inputs: int, depth_bins: int, context: int, pooling: nn.Module) -> None:
        super().__init__()
        self.depth_bins = depth_bins
        self.depth_net = nn.Conv2d(inputs, depth_bins + context, 1)
        self.depth_softmax = nn.Softmax(dim=1)
        self.pooling = pooling

    def forward(self, features: Tensor, *tables: Tensor) -> Tensor:
        both = self.depth_net(features)
        depth = self.depth_softmax(both[:, : self.depth_bins])
        bev: Tensor = self.pooling(depth, both[:, self.depth_bins :], *tables)
        return bev


class LSSViewTransformerBEVDepth(nn.Module):
    """The same with a :class:`~exporters.flashocc.depth_net.DepthNet`, which knows its cameras.

    Args:
        stereo: whether the DepthNet takes a cost volume (BEVStereo, arXiv:2209.10248).

    Attributes:
        pooling: as in :class:`LSSViewTransformer`.
    """

    def __init__(
        self,
        inputs: int,
        depth_bins: int,
        context: int,
        pooling: nn.Module,
        *,
        stereo: bool = False,
    ) -> None:
        super().__init__()
        self.depth_bins = depth_bins
        self.depth_net = DepthNet(inputs, inputs, context, depth_bins, stereo=stereo)
        self.depth_softmax = nn.Softmax(dim=1)
        self.pooling = pooling

    def forward(
        self,
        features: Tensor,
        cameras: Tensor | None,
        *tables: Tensor,
        cost: Tensor | None = None,
    ) -> Tensor:
        """``cameras``: the vectors ``[N, 27]`` of ``exporters.flashocc.camera_vectors``."""
        logits, context = self.depth_net(features, cameras, cost)
        bev: Tensor = self.pooling(self.depth_softmax(logits), context, *tables)
        return bev
