"""A network together with its losses: the module that the training loop runs and distributes.

Frames of a batch share one pass through the image backbone and the BEV encoder, so that BatchNorm
sees all of them; lifting and heads, which take one moment each, run frame by frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from exporters.flashocc.config import Config
from exporters.flashocc.inference import CameraInput
from training.losses import centre_loss, depth_loss, occupancy_loss

UNSEEN_SHARE = 1 / 8
"""Of the voxels that no camera sees, the share that counts. Without any, the space around the
vehicle would be filled at random, which no camera mask shows but every ray does."""

LOSS_WEIGHTS = {"occupancy": 1.0, "depth": 0.1, "centres": 0.2}


class Trainee(nn.Module):
    """Losses of a batch.

    Args:
        network: ``FlashOcc`` or ``PanopticFlashOcc`` of one frame with a rig baked in.
        weights: of the classes, ``[classes]``.
    """

    def __init__(self, network: nn.Module, config: Config, weights: Tensor) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.camera_input = CameraInput()
        self.register_buffer("weights", weights, persistent=False)
        self._depth: list[Tensor] = []
        softmax = network.get_submodule("img_view_transformer.depth_softmax")
        softmax.register_forward_hook(lambda _module, _inputs, output: self._depth.append(output))

    def forward(self, batch: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Mean of each loss over the frames of ``batch`` (see ``training.scenes.Scenes``)."""
        self._depth.clear()
        fused = self.features(torch.cat([frame["images"] for frame in batch]), len(batch))
        parts: dict[str, list[Tensor]] = {"occupancy": [], "depth": [], "centres": []}
        centres = getattr(self.network, "aux_centerness_head", None)
        for frame, bev, depth in zip(batch, fused.chunk(len(batch)), self._depth, strict=True):
            logits = self.network.get_submodule("occ_head")(bev)
            mask = self._counted(frame["mask_camera"])
            truth = frame["semantics"].long()
            parts["occupancy"].append(
                occupancy_loss(logits, truth, mask, self.get_buffer("weights"))
            )
            parts["depth"].append(depth_loss(depth, frame["depth"], self.config.view))
            if centres is not None:
                maps = centres(bev)
                parts["centres"].append(
                    centre_loss(
                        maps.heatmap[0],
                        maps.reg[0],
                        maps.height[0],
                        frame["boxes"],
                        self.config.grid,
                    )
                )
        return {name: torch.stack(values).mean() for name, values in parts.items() if values}

    def features(self, images: Tensor, frames: int) -> Tensor:
        """The BEV features that the heads see, ``[frames, width, ny, nx]``."""
        network: Any = self.network
        planes = self.camera_input(images).contiguous(memory_format=torch.channels_last)
        seen = network.img_neck(*network.img_backbone(planes))
        maps = [network.img_view_transformer(part) for part in seen.chunk(frames)]
        bev = torch.cat(maps).contiguous(memory_format=torch.channels_last)
        fused: Tensor = network.img_bev_encoder_neck(*network.img_bev_encoder_backbone(bev))
        return fused

    def _counted(self, mask: Tensor) -> Tensor:
        chance = torch.rand(mask.shape, device=mask.device)
        return (mask == 1) | (chance < UNSEEN_SHARE)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What is minimised."""
    return torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
