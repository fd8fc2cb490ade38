"""Panoptic-FlashOcc as trained, in plain PyTorch with the official parameter names.

    images --img_backbone, img_neck, img_view_transformer--> bev [1,context,ny,nx]
    bev --pre_process_net--> map of this frame       (networks with a history only)
    [this frame, past frames ...] --img_bev_encoder_backbone, img_bev_encoder_neck-->
    bev [1,width,ny,nx] --occ_head--> logits [nx,ny,nz,classes]
                        --aux_centerness_head--> centre maps

Panoptic-FlashOcc (arXiv:2406.10527), upstream commit 4084861: ``BEVDepthOCC``, ``BEVDepthPano``,
``BEVDepth4DOCC`` and ``BEVDepth4DPano``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from exporters.flashocc.bev_encoder import CustomResNet
from exporters.flashocc.head import BEVOCCHead2D
from exporters.flashocc.layers import BasicBlock
from exporters.flashocc.necks import FPN_LSS, CustomFPN
from exporters.flashocc.resnet import ResNet
from exporters.flashocc.view_transformer import LSSViewTransformer, LSSViewTransformerBEVDepth
from exporters.panoptic_flashocc.centre_head import CenternessHead, CentreMaps
from exporters.panoptic_flashocc.config import PanopticConfig


class Predictions(NamedTuple):
    """What the network says of one moment.

    Attributes:
        logits: occupancy ``[nx, ny, nz, classes]``.
        centres: maps of the centre head; None for a network without one.
    """

    logits: Tensor
    centres: CentreMaps | None


class PreProcessNet(nn.Module):
    """One basic block on the BEV map of a single frame; its shortcut is a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shortcut = nn.Conv2d(channels, channels, 3, padding=1)
        block = BasicBlock(channels, channels, shortcut=shortcut)
        self.layers = nn.Sequential(nn.Sequential(block))

    def forward(self, bev: Tensor) -> Tensor:
        out: Tensor = self.layers(bev)
        return out


class PanopticFlashOcc(nn.Module):
    """Occupancy and instance centres from the camera images of one moment and from past BEV maps.

    Args:
        pooling: from ``exporters.flashocc.pooling_torch``; decides the rig and how tables arrive.
    """

    def __init__(self, config: PanopticConfig, pooling: nn.Module) -> None:
        super().__init__()
        self.camera_aware, self.history = config.camera_aware, config.history
        fine, coarse = config.backbone.widths[-2:]
        self.img_backbone = ResNet(config.backbone)
        self.img_neck = CustomFPN((fine, coarse), config.neck)
        lift = LSSViewTransformerBEVDepth if config.camera_aware else LSSViewTransformer
        self.img_view_transformer = lift(
            config.neck, config.view.depth_bins, config.context, pooling
        )
        self.pre_process_net = PreProcessNet(config.context) if config.history else None
        self.img_bev_encoder_backbone = CustomResNet(
            config.context * (config.history + 1), config.encoder
        )
        self.img_bev_encoder_neck = FPN_LSS(config.encoder[0] + config.encoder[2], config.width)
        self.occ_head = BEVOCCHead2D(config.width, config.grid.nz_out, len(config.classes))
        self.aux_centerness_head = (
            CenternessHead(config.width, config.centre_width) if config.centres else None
        )

    def forward(
        self,
        images: Tensor,
        *tables: Tensor,
        cameras: Tensor | None = None,
        history: Sequence[Tensor] = (),
    ) -> Predictions:
        """Predictions for one moment.

        Args:
            images: float32 ``[N, 3, H, W]``, planes B, G, R, normalised.
            tables: pooling tables where the rig is an input, else none.
            cameras: vectors ``[N, 27]`` for a camera-aware network, else None.
            history: results of :meth:`bev_map` for past frames, the latest first, brought into
                the current ego frame; as many as ``config.history``.
        """
        return self.predict(self.bev_map(images, *tables, cameras=cameras), history)

    def bev_map(self, images: Tensor, *tables: Tensor, cameras: Tensor | None = None) -> Tensor:
        """The BEV map ``[1, context, ny, nx]`` of one frame: what a temporal network remembers."""
        features = self.img_neck(*self.img_backbone(images))
        given = (cameras, *tables) if self.camera_aware else tables
        bev: Tensor = self.img_view_transformer(features, *given)
        return bev if self.pre_process_net is None else self.pre_process_net(bev)

    def predict(self, bev: Tensor, history: Sequence[Tensor] = ()) -> Predictions:
        """What follows once all maps are there."""
        if len(history) != self.history:
            raise ValueError(f"{len(history)} past maps, the network takes {self.history}")
        maps = torch.cat([bev, *history], dim=1) if history else bev
        fused = self.img_bev_encoder_neck(*self.img_bev_encoder_backbone(maps))
        head = self.aux_centerness_head
        return Predictions(self.occ_head(fused), None if head is None else head(fused))
