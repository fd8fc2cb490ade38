"""The form of a trained FlashOcc that is exported: same function, fewer and friendlier operators.

* uint8 camera images in, colour order and normalisation inside, resizing too where asked;
* BatchNorm folded into the convolution before it, ``w' = w g / sqrt(v + eps)``;
* the head's linear layers as 1x1 convolutions, argmax inside.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.flashocc.config import PLANE_MEAN, PLANE_STD
from exporters.flashocc.head import OccupancyHead
from exporters.flashocc.model import FlashOcc

InputKind = Literal["uint8", "float", "camera"]


class CameraInput(nn.Module):
    """uint8 RGB ``[N, H, W, 3]`` to normalised float32 planes B, G, R ``[N, 3, H, W]``.

    Args:
        resize: from the cameras' pictures to the network's, on planes of whole numbers; None where
            the pictures have the network's size.
    """

    def __init__(self, resize: nn.Module | None = None) -> None:
        super().__init__()
        self.resize = resize or nn.Identity()
        self.register_buffer("order", torch.tensor([2, 1, 0], dtype=torch.int32), persistent=False)
        for name, value in (("mean", PLANE_MEAN), ("scale", [1 / std for std in PLANE_STD])):
            self.register_buffer(name, torch.tensor(value).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        planes = images.to(torch.float32).permute(
            0, 3, 1, 2
        )  # TensorRT: cast first, uint8 cannot move
        planes = self.resize(planes)
        bgr = planes.index_select(1, self.get_buffer("order"))
        normalised: Tensor = (bgr - self.get_buffer("mean")) * self.get_buffer("scale")
        return normalised


class InferenceModel(nn.Module):
    """What is traced. Shares no parameter with ``network``, which stays as it was.

    Args:
        resize: with ``inputs="camera"``, see ``CameraInput``.
    """

    def __init__(
        self,
        network: FlashOcc,
        *,
        inputs: InputKind = "uint8",
        logits: bool = False,
        resize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        folded = fold_batch_norm(copy.deepcopy(network).eval())
        self.camera_input = nn.Identity() if inputs == "float" else CameraInput(resize)
        self.img_backbone = folded.img_backbone
        self.img_neck = folded.img_neck
        self.img_view_transformer = folded.img_view_transformer
        self.img_bev_encoder_backbone = folded.img_bev_encoder_backbone
        self.img_bev_encoder_neck = folded.img_bev_encoder_neck
        self.occ_head = OccupancyHead(folded.occ_head, labels=not logits)

    def forward(self, images: Tensor, *tables: Tensor) -> Tensor:
        features = self.img_neck(*self.img_backbone(self.camera_input(images)))
        bev = self.img_view_transformer(features, *tables)
        out: Tensor = self.occ_head(self.img_bev_encoder_neck(*self.img_bev_encoder_backbone(bev)))
        return out


Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norm(module: Module) -> Module:
    """Fold every BatchNorm of ``module``, in place, into the convolution it follows."""
    for parent, conv_name, norm_name in list(_conv_norm_pairs(module)):
        conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(parent, norm_name, nn.Identity())
    return module


def _conv_norm_pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Parent and names of each BatchNorm and of the child convolution right before it."""
    for parent in module.modules():
        previous = ""
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                yield parent, previous, name
            previous = name
