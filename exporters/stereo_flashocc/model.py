"""FlashOcc M2 and M3 as trained, in plain PyTorch with the official parameter names.

    images --img_backbone--> stereo feature (stride 4), features (16, 32)
    features --img_neck--> feature;  stereo feature now and before --> cost volume
    feature, cost volume --img_view_transformer, pre_process_net--> map of this frame
    [map before, map of this frame] --img_bev_encoder_backbone, img_bev_encoder_neck, occ_head-->
    logits [nx,ny,nz,classes]

FlashOcc (arXiv:2311.12058), upstream commit 4084861: ``BEVStereo4DOCC``. The older map comes first
here, other than in the networks of ``exporters.panoptic_flashocc``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.flashocc.bev_encoder import CustomResNet
from exporters.flashocc.head import BEVOCCHead2D
from exporters.flashocc.necks import FPN_LSS, CustomFPN
from exporters.flashocc.resnet import ResNet
from exporters.flashocc.view_transformer import LSSViewTransformerBEVDepth
from exporters.panoptic_flashocc.model import PreProcessNet
from exporters.stereo_flashocc.config import StereoConfig
from exporters.stereo_flashocc.swin import SwinTransformer


class StereoResNet(ResNet):
    """A ResNet that also returns its first stage: features of stride 4, 16 and 32."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        features = self.features(x)
        return features[0], features[-2], features[-1]


class ImageFPN(nn.Module):
    """The image neck of M3: features of stride 16 and 32 to one map of stride 16."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.cat([fine, self.up(coarse)], dim=1))
        return out


class StereoFlashOcc(nn.Module):
    """Occupancy from N camera images of one moment and what was seen before.

    Args:
        pooling: from ``exporters.flashocc.pooling_torch``; decides the rig and how tables arrive.
    """

    def __init__(self, config: StereoConfig, pooling: nn.Module) -> None:
        super().__init__()
        _, fine, coarse = config.image_widths
        if config.swin is None:
            self.img_backbone: nn.Module = StereoResNet(config.backbone)
            self.img_neck: nn.Module = CustomFPN((fine, coarse), config.neck)
        else:
            self.img_backbone = SwinTransformer(config.swin, config.view.image_size)
            self.img_neck = ImageFPN(fine + coarse, config.neck)
        self.img_view_transformer = LSSViewTransformerBEVDepth(
            config.neck, config.view.depth_bins, config.context, pooling, stereo=True
        )
        self.pre_process_net = PreProcessNet(config.context)
        self.img_bev_encoder_backbone = CustomResNet(2 * config.context, config.encoder)
        self.img_bev_encoder_neck = FPN_LSS(config.encoder[0] + config.encoder[2], config.width)
        self.occ_head = BEVOCCHead2D(config.width, config.grid.nz_out, len(config.classes))

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Stereo feature ``[N, C, H / 4, W / 4]`` and feature ``[N, neck, H / 16, W / 16]``.

        Args:
            images: float32 ``[N, 3, H, W]``, planes B, G, R, normalised.
        """
        stereo, fine, coarse = self.img_backbone(images)
        return stereo, self.img_neck(fine, coarse)

    def bev_map(
        self, feature: Tensor, cost: Tensor, cameras: Tensor | None, *tables: Tensor
    ) -> Tensor:
        """The BEV map ``[1, context, ny, nx]`` of one frame.

        Args:
            cost: result of ``CostVolume``.
            cameras: vectors ``[N, 27]``; None for a FixedDepthNet.
        """
        lifted = self.img_view_transformer(feature, cameras, *tables, cost=cost)
        out: Tensor = self.pre_process_net(lifted)
        return out

    def predict(self, before: Tensor, bev: Tensor) -> Tensor:
        """Logits ``[nx, ny, nz, classes]`` from two maps in the current ego frame."""
        stages = self.img_bev_encoder_backbone(torch.cat([before, bev], dim=1))
        logits: Tensor = self.occ_head(self.img_bev_encoder_neck(*stages))
        return logits
