"""The form of a trained Panoptic-FlashOcc that is exported: labels and instances inside the graph.

Everything that holds for FlashOcc (``exporters.flashocc.inference``), and

* for a fixed rig the two gates of the DepthNet are constants;
* the instances are found in the graph (``exporters.panoptic_flashocc.instances``);
* the past is an input: maps of earlier frames, how the vehicle moved since, and how many of them
  belong to this scene. The current map is an output, to be kept for later frames.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from exporters.flashocc.depth_net import DepthNet, FixedDepthNet, fold_camera_norm
from exporters.flashocc.head import OccupancyHead
from exporters.flashocc.inference import CameraInput, InputKind, fold_batch_norm
from exporters.panoptic_flashocc.centres import CentreRules
from exporters.panoptic_flashocc.config import PanopticConfig
from exporters.panoptic_flashocc.instances import Instances
from exporters.panoptic_flashocc.memory import Memory, stand_in
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from exporters.panoptic_flashocc.ports import CAMERA_VECTORS, LENGTH, MOTION, history_names


class PanopticInference(nn.Module):
    """What is traced. Shares no parameter with ``network``, which stays as it was.

    Args:
        names: inputs in the order in which ``forward`` takes them.
        cameras: vectors ``[N, 27]`` of a baked rig; None where they are an input or not needed.
        logits: return logits and centre maps in place of labels and instances.
        resize: with ``inputs="camera"``, see ``CameraInput``.
    """

    def __init__(
        self,
        network: PanopticFlashOcc,
        config: PanopticConfig,
        rules: CentreRules,
        names: tuple[str, ...],
        *,
        inputs: InputKind = "uint8",
        cameras: Tensor | None = None,
        logits: bool = False,
        resize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.names, self.config, self.logits = names, config, logits
        self.tables = tuple(name for name in names if name.startswith("rig_"))
        folded = fold_batch_norm(copy.deepcopy(network).eval())
        _fold_cameras(folded, cameras)
        self.camera_input = nn.Identity() if inputs == "float" else CameraInput(resize)
        self.img_backbone, self.img_neck = folded.img_backbone, folded.img_neck
        self.img_view_transformer = folded.img_view_transformer
        self.pre_process_net = folded.pre_process_net or nn.Identity()
        self.img_bev_encoder_backbone = folded.img_bev_encoder_backbone
        self.img_bev_encoder_neck = folded.img_bev_encoder_neck
        self.occ_head = OccupancyHead(folded.occ_head, labels=not logits)
        self.aux_centerness_head = folded.aux_centerness_head
        self.panoptic = Instances(config, rules) if config.centres and not logits else None
        self.memory = Memory(config.grid) if config.history and MOTION in names else None

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """What ``ports.output_names`` names."""
        given = dict(zip(self.names, values, strict=True))
        features = self.img_neck(*self.img_backbone(self.camera_input(given["images"])))
        lifted: list[Tensor | None] = [given[name] for name in self.tables]
        if self.config.camera_aware:  # none for a FixedDepthNet
            lifted.insert(0, given.get(CAMERA_VECTORS))
        bev = self.pre_process_net(self.img_view_transformer(features, *lifted))
        if not self.config.history:
            return self._results(self._fused(bev))
        history = [given[name] for name in history_names(self.config.history)]
        if self.memory is None:
            past = stand_in(bev, history, given[LENGTH])
        else:
            past = self.memory(bev, history, given[MOTION], given[LENGTH])
        return (*self._results(self._fused(torch.cat([bev, *past], dim=1))), bev)

    def _fused(self, maps: Tensor) -> Tensor:
        out: Tensor = self.img_bev_encoder_neck(*self.img_bev_encoder_backbone(maps))
        return out

    def _results(self, fused: Tensor) -> tuple[Tensor, ...]:
        centres = () if self.aux_centerness_head is None else self.aux_centerness_head(fused)
        if self.logits:
            return (self.occ_head(fused), *centres)
        labels = self.occ_head.volume(fused).argmax(1)  # [nz, ny, nx]
        named = labels.permute(2, 1, 0).to(torch.uint8)
        if self.panoptic is None:
            return (named,)
        return named, self.panoptic(labels, centres).permute(2, 1, 0)


def _fold_cameras(network: PanopticFlashOcc, cameras: Tensor | None) -> None:
    lift = network.img_view_transformer
    if isinstance(lift.depth_net, DepthNet):
        if cameras is None:
            fold_camera_norm(lift.depth_net)
        else:
            lift.register_module("depth_net", FixedDepthNet(lift.depth_net, cameras))
