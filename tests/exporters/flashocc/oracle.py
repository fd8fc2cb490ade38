"""FlashOcc a second time, straight from a state dict in float64, for comparison.

Written from the description of the network, without its modules: no BatchNorm layer (its formula
instead), no Upsample (an interpolation matrix instead), pooling by definition.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from exporters.flashocc.config import Config
from exporters.flashocc.geometry import cell_indices
from exporters.flashocc.rig import Rig
from tests.exporters.flashocc.rigs import pool_reference

State = Mapping[str, Tensor]


def logits(
    state: State, config: Config, rig: Rig, images: NDArray[np.float32]
) -> NDArray[np.float64]:
    """``[nx, ny, nz, classes]`` from normalised planes ``[N, 3, H, W]``."""
    net = _Net({name: value.double() for name, value in state.items()})
    x = torch.from_numpy(images).double()
    fine, coarse = net.resnet(x, config.backbone.blocks)
    features = net.image_neck(fine, coarse)
    both = net.conv("img_view_transformer.depth_net", features, pad=0)
    bins = config.view.depth_bins
    depth, context = both[:, :bins].exp(), both[:, bins:]
    depth = depth / depth.sum(1, keepdim=True)
    cells = cell_indices(rig, config.view, config.grid)
    bev = torch.from_numpy(pool_reference(depth.numpy(), context.numpy(), cells, config.grid))
    return net.head(net.bev_neck(*net.bev_encoder(bev)), config).numpy()


class _Net:
    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, *, stride: int = 1, pad: int = 1) -> Tensor:
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, self.state[f"{name}.weight"], bias, stride, pad)

    def norm(self, name: str, x: Tensor) -> Tensor:
        get = lambda key: self.state[f"{name}.{key}"][:, None, None]  # noqa: E731
        scale = get("weight") / (get("running_var") + 1e-5).sqrt()
        return (x - get("running_mean")) * scale + get("bias")

    def resnet(self, x: Tensor, blocks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        p = "img_backbone"
        x = self.norm(f"{p}.bn1", self.conv(f"{p}.conv1", x, stride=2, pad=3)).relu()
        x = F.max_pool2d(x, 3, 2, 1)
        outs = []
        for stage, count in enumerate(blocks):
            for index in range(count):
                stride = 2 if stage and not index else 1
                x = self.bottleneck(f"{p}.layer{stage + 1}.{index}", x, stride)
            outs.append(x)
        return outs[2], outs[3]

    def bottleneck(self, p: str, x: Tensor, stride: int) -> Tensor:
        y = self.norm(f"{p}.bn1", self.conv(f"{p}.conv1", x, pad=0)).relu()
        y = self.norm(f"{p}.bn2", self.conv(f"{p}.conv2", y, stride=stride)).relu()
        y = self.norm(f"{p}.bn3", self.conv(f"{p}.conv3", y, pad=0))
        if f"{p}.downsample.0.weight" in self.state:
            x = self.conv(f"{p}.downsample.0", x, stride=stride, pad=0)
            x = self.norm(f"{p}.downsample.1", x)
        return (x + y).relu()

    def image_neck(self, fine: Tensor, coarse: Tensor) -> Tensor:
        fine = self.conv("img_neck.lateral_convs.0.conv", fine, pad=0)
        coarse = self.conv("img_neck.lateral_convs.1.conv", coarse, pad=0)
        rows = torch.arange(fine.shape[2]) * coarse.shape[2] // fine.shape[2]
        columns = torch.arange(fine.shape[3]) * coarse.shape[3] // fine.shape[3]
        return self.conv("img_neck.fpn_convs.0.conv", fine + coarse[:, :, rows][:, :, :, columns])

    def bev_encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outs = []
        for stage in range(3):
            p = f"img_bev_encoder_backbone.layers.{stage}"
            y = self.norm(f"{p}.0.bn1", self.conv(f"{p}.0.conv1", x, stride=2)).relu()
            y = self.norm(f"{p}.0.bn2", self.conv(f"{p}.0.conv2", y))
            x = (y + self.conv(f"{p}.0.downsample", x, stride=2)).relu()
            y = self.norm(f"{p}.1.bn1", self.conv(f"{p}.1.conv1", x)).relu()
            x = (self.norm(f"{p}.1.bn2", self.conv(f"{p}.1.conv2", y)) + x).relu()
            outs.append(x)
        return outs[0], outs[2]

    def bev_neck(self, fine: Tensor, coarse: Tensor) -> Tensor:
        p = "img_bev_encoder_neck"
        x = torch.cat([fine, enlarge(coarse, 4)], 1)
        x = self.norm(f"{p}.conv.1", self.conv(f"{p}.conv.0", x)).relu()
        x = self.norm(f"{p}.conv.4", self.conv(f"{p}.conv.3", x)).relu()
        x = self.norm(f"{p}.up2.2", self.conv(f"{p}.up2.1", enlarge(x, 2))).relu()
        return self.conv(f"{p}.up2.4", x, pad=0)

    def head(self, bev: Tensor, config: Config) -> Tensor:
        x = self.conv("occ_head.final_conv.conv", bev).relu()[0]  # [channels, y, x]
        first, last = (
            (
                self.state[f"occ_head.predicter.{i}.weight"],
                self.state[f"occ_head.predicter.{i}.bias"],
            )
            for i in (0, 2)
        )
        x = torch.einsum("oc,cyx->xyo", first[0], x) + first[1]
        x = torch.log1p(x.exp())
        x = torch.einsum("oc,xyc->xyo", last[0], x) + last[1]
        classes = len(config.classes)
        return torch.stack(
            [x[..., z * classes : (z + 1) * classes] for z in range(config.grid.nz_out)], 2
        )


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear with aligned corners: the outermost samples of both maps coincide."""
    rows = _weights(x.shape[2], x.shape[2] * factor)
    columns = _weights(x.shape[3], x.shape[3] * factor)
    return torch.einsum("Yy,ncyx,Xx->ncYX", rows, x, columns)


def _weights(source: int, target: int) -> Tensor:
    """``[target, source]``, two neighbours a row."""
    position = torch.arange(target).double() * (source - 1) / (target - 1)
    distance = (position[:, None] - torch.arange(source)).abs()
    return (1 - distance).clamp(min=0)
