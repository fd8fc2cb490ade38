"""The form of M2 and M3 that is exported: one frame at a time, what was seen before as input.

Upstream computes both frames each time; here the map and the stereo feature of the frame before
are states. Where a scene starts, the current frame stands in for the one before, as upstream.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from exporters.flashocc.depth_net import DepthNet, FixedDepthNet, fold_camera_norm
from exporters.flashocc.head import OccupancyHead
from exporters.flashocc.inference import CameraInput, InputKind, fold_batch_norm
from exporters.panoptic_flashocc.memory import Memory
from exporters.stereo_flashocc.config import StereoConfig
from exporters.stereo_flashocc.cost_volume import CostVolume
from exporters.stereo_flashocc.model import StereoFlashOcc
from exporters.stereo_flashocc.ports import (
    CAMERA_VECTORS,
    LENGTH,
    MOTION,
    PAST_BEV,
    PAST_STEREO,
    STEREO_MOTION,
)


class StereoInference(nn.Module):
    """What is traced. Shares no parameter with ``network``, which stays as it was.

    Args:
        names: inputs in the order in which ``forward`` takes them.
        cameras: vectors ``[N, 27]`` of a baked rig; None where they are an input.
        logits: return logits in place of labels.
        resize: with ``inputs="camera"``, see ``CameraInput``.
    """

    def __init__(
        self,
        network: StereoFlashOcc,
        config: StereoConfig,
        names: tuple[str, ...],
        *,
        inputs: InputKind = "uint8",
        cameras: Tensor | None = None,
        logits: bool = False,
        resize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.names = names
        self.tables = tuple(name for name in names if name.startswith("rig_"))
        folded = fold_batch_norm(copy.deepcopy(network).eval())
        lift = folded.img_view_transformer
        assert isinstance(lift.depth_net, DepthNet)
        if cameras is None:
            fold_camera_norm(lift.depth_net)
        else:
            lift.register_module("depth_net", FixedDepthNet(lift.depth_net, cameras))
        self.camera_input = nn.Identity() if inputs == "float" else CameraInput(resize)
        self.img_backbone, self.img_neck = folded.img_backbone, folded.img_neck
        self.cost_volume = CostVolume(config.view)
        self.img_view_transformer = lift
        self.pre_process_net = folded.pre_process_net
        self.memory = Memory(config.grid)
        self.img_bev_encoder_backbone = folded.img_bev_encoder_backbone
        self.img_bev_encoder_neck = folded.img_bev_encoder_neck
        self.occ_head = OccupancyHead(folded.occ_head, labels=not logits)

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels or logits, the map and the stereo feature of this frame."""
        given = dict(zip(self.names, values, strict=True))
        stereo, fine, coarse = self.img_backbone(self.camera_input(given["images"]))
        feature = self.img_neck(fine, coarse)
        before = torch.where(given[LENGTH] >= 1, given[PAST_STEREO], stereo)
        cost = self.cost_volume(stereo, before, given[STEREO_MOTION])
        tables = [given[name] for name in self.tables]
        cameras = given.get(CAMERA_VECTORS)
        bev = self.pre_process_net(self.img_view_transformer(feature, cameras, *tables, cost=cost))
        (past,) = self.memory(bev, [given[PAST_BEV]], given[MOTION], given[LENGTH])
        stages = self.img_bev_encoder_backbone(torch.cat([past, bev], dim=1))
        return self.occ_head(self.img_bev_encoder_neck(*stages)), bev, stereo
