"""A pillar detector together with its losses, on batches of `training.cloud_batches`.

The encoder's layer sees the pillars of all clouds of a batch at once, so that BatchNorm does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from exporters.pillarhist.encoders import HardPFN
from exporters.pillarhist.model import PillarDetector
from training.box_targets import box_losses

LOSS_WEIGHTS = {"heat": 1.0, "boxes": 1.0}


class PillarTrainee(nn.Module):
    """Losses of a batch.

    Args:
        network: with a centre head of one task; its encoder is PillarHist or PointPillars'.
    """

    def __init__(self, network: PillarDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return box_losses(self.maps(batch), batch)  # type: ignore[arg-type]

    def maps(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the head gives for all clouds, ``[B, channels, h, w]`` by branch."""
        network = self.network
        features = self.encoded(batch["rows"])
        grid, clouds = network.config.grid, len(batch["clouds"])
        canvas = features.new_zeros(clouds * grid.pillars, features.shape[1])
        canvas = canvas.index_copy(0, batch["pillars"], features)
        maps = canvas.reshape(clouds, grid.ny, grid.nx, -1).permute(0, 3, 1, 2)
        found: dict[str, Tensor]
        (found,) = network.dense_head(network.backbone_2d(maps))
        return found

    def encoded(self, rows: Tensor) -> Tensor:
        """Features of pillars ``[V, width]`` from what the encoder's layer sees."""
        encoder = self.network.vfe
        layer = encoder.pfn_layers[0]
        if not isinstance(encoder, HardPFN):
            out: Tensor = layer(rows)
            return out
        points: Tensor = layer(rows.flatten(0, 1))
        return points.reshape(*rows.shape[:2], -1).amax(dim=1)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What is minimised."""
    return torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
