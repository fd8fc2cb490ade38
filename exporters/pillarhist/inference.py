"""The form of a trained pillar detector that is exported: raw points in, rows of boxes out.

The same function as the trained network's: encoders over the whole grid, BatchNorm folded,
decoding and suppression inside.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.pillarhist.config import AnchorHead
from exporters.pillarhist.decoding import AnchorBoxes, BoxRows, CentreBoxes, candidates_of
from exporters.pillarhist.exported_encoders import exported_encoder
from exporters.pillarhist.model import PillarDetector


class InferenceModel(nn.Module):
    """What is traced. Shares no parameter with ``network``, which stays as it was.

    Args:
        nms: ``rotated`` as upstream, ``peak`` (centre heads: local maxima in place of suppression),
            or ``none``: all candidates of enough score.
    """

    def __init__(self, network: PillarDetector, nms: str = "rotated") -> None:
        super().__init__()
        config = network.config
        folded = fold_batch_norm(copy.deepcopy(network).eval())
        self.vfe = exported_encoder(network.vfe)
        self.backbone_2d = folded.backbone_2d
        self.dense_head = folded.dense_head
        anchors = isinstance(config.head, AnchorHead)
        self.boxes = AnchorBoxes(config) if anchors else CentreBoxes(config, peaks=nms == "peak")
        groups, candidates = candidates_of(config)
        self.rows = BoxRows(config, groups, candidates, suppress=nms == "rotated")

    def forward(self, points: Tensor) -> Tensor:
        maps = self.dense_head(self.backbone_2d(self.vfe(points)))
        rows: Tensor = self.rows(*self.boxes(maps))
        return rows


def fold_batch_norm(network: PillarDetector) -> PillarDetector:
    """Fold every 2-D BatchNorm, in place, into the convolution before it."""
    for parent, conv_name, norm_name in list(_conv_norm_pairs(network)):
        conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        transposed = isinstance(conv, nn.ConvTranspose2d)
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm, transpose=transposed))
        setattr(parent, norm_name, nn.Identity())
    return network


def _conv_norm_pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    for parent in module.modules():
        previous = ""
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                yield parent, previous, name
            previous = name
