"""FlashOcc as trained, in plain PyTorch with the official parameter names.

    images [N,3,H,W] --img_backbone, img_neck--> [N,neck,fH,fW] --img_view_transformer-->
    bev [1,context,ny,nx] --img_bev_encoder_backbone, img_bev_encoder_neck--> [1,width,ny,nx]
    --occ_head--> logits [nx,ny,nz,classes]

FlashOcc (arXiv:2311.12058), upstream commit 4084861: ``BEVDetOCC`` with ``BEVOCCHead2D``.
"""

from __future__ import annotations

from torch import Tensor, nn

from exporters.flashocc.bev_encoder import CustomResNet
from exporters.flashocc.config import Config
from exporters.flashocc.head import BEVOCCHead2D
from exporters.flashocc.necks import FPN_LSS, CustomFPN
from exporters.flashocc.resnet import ResNet
from exporters.flashocc.view_transformer import LSSViewTransformer


class FlashOcc(nn.Module):
    """Occupancy from N camera images of one moment.

    Args:
        pooling: from ``exporters.flashocc.pooling_torch``; decides the rig and how tables arrive.
    """

    def __init__(self, config: Config, pooling: nn.Module) -> None:
        super().__init__()
        fine, coarse = config.backbone.widths[-2:]
        self.img_backbone = ResNet(config.backbone)
        self.img_neck = CustomFPN((fine, coarse), config.neck)
        self.img_view_transformer = LSSViewTransformer(
            config.neck, config.view.depth_bins, config.context, pooling
        )
        self.img_bev_encoder_backbone = CustomResNet(config.context, config.encoder)
        self.img_bev_encoder_neck = FPN_LSS(config.encoder[0] + config.encoder[2], config.width)
        self.occ_head = BEVOCCHead2D(config.width, config.grid.nz_out, len(config.classes))

    def forward(self, images: Tensor, *tables: Tensor) -> Tensor:
        """Logits ``[nx, ny, nz, classes]``.

        Args:
            images: float32 ``[N, 3, H, W]``, planes B, G, R, normalised.
            tables: pooling tables where the rig is an input, else none.
        """
        features = self.img_neck(*self.img_backbone(images))
        bev = self.img_view_transformer(features, *tables)
        logits: Tensor = self.occ_head(
            self.img_bev_encoder_neck(*self.img_bev_encoder_backbone(bev))
        )
        return logits
