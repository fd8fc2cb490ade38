"""A pillar detector as trained: encoder, backbone, head, with the names of OpenPCDet's checkpoints.

points [N, columns] --vfe--> [1, width, ny, nx] --backbone_2d--> [1, C, h, w] --dense_head--> maps
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exporters.pillarhist.backbone import BaseBEVBackbone
from exporters.pillarhist.config import AnchorHead, Config
from exporters.pillarhist.encoders import make_encoder
from exporters.pillarhist.heads import AnchorHeadSingle, CenterHead, start_biases


class PillarDetector(nn.Module):
    """Maps of the head for one cloud of points."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # upstream counts its training steps in every detector
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.int64))
        self.vfe = make_encoder(config)
        self.backbone_2d = BaseBEVBackbone(config.encoder.width, config.backbone)
        self.dense_head: AnchorHeadSingle | CenterHead
        if isinstance(config.head, AnchorHead):
            self.dense_head = AnchorHeadSingle(config.backbone.width, config.head)
        else:
            self.dense_head = CenterHead(config.backbone.width, config.head)
        start_biases(self.dense_head)

    def forward(self, points: Tensor) -> Any:
        return self.dense_head(self.backbone_2d(self.vfe(points)))
