"""Seeded random weights for a Panoptic-FlashOcc (``exporters.flashocc.random_weights``).

Two parts need more than scales: the BatchNorm of the camera vectors takes the statistics of the
rig, and the heatmap's bias lets ``PEAKS`` centres pass the score threshold, as in a busy street.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from exporters.flashocc.depth_net import DepthNet
from exporters.flashocc.random_weights import initialise as initialise_occupancy
from exporters.panoptic_flashocc.centre_head import CentreMaps
from exporters.panoptic_flashocc.config import PanopticConfig
from exporters.panoptic_flashocc.model import PanopticFlashOcc

PEAKS = 60
_SMALLEST_SPREAD = 0.1
"""Of a camera value, relative to its size: values that all cameras share would have none."""


def initialise(
    network: PanopticFlashOcc,
    config: PanopticConfig,
    *,
    cameras: Tensor,
    seed: int,
    tables: tuple[Tensor, ...] = (),
) -> None:
    """Set all weights of ``network`` in place; the same seed gives the same weights.

    Args:
        cameras: vectors ``[N, 27]`` of the rig.
        tables: pooling tables where the rig is an input of the network.
    """
    depth_net = network.img_view_transformer.depth_net
    if isinstance(depth_net, DepthNet):
        take_statistics(depth_net.bn, cameras)
    seen: list[CentreMaps] = []

    def logits_of(images: Tensor) -> Tensor:
        bev = network.bev_map(images, *tables, cameras=cameras)
        predictions = network.predict(bev, [bev] * config.history)
        if predictions.centres is not None:
            seen.append(predictions.centres)
        return predictions.logits

    initialise_occupancy(network, config, cameras=len(cameras), seed=seed, logits_of=logits_of)
    if network.aux_centerness_head is not None:
        heads = network.aux_centerness_head.task_heads[0]
        _choose_bias(heads.get_parameter("heatmap.1.bias"), seen[0].heatmap, config)
        heads.get_parameter("reg.1.bias").data.fill_(0.5)


def take_statistics(norm: nn.BatchNorm1d, cameras: Tensor) -> None:
    """Give the norm of the camera vectors the statistics of a rig, in place."""
    mean, variance = cameras.mean(0), cameras.var(0, unbiased=False)
    floor = (_SMALLEST_SPREAD * (mean.abs() + 1.0)) ** 2
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance + floor)


def _choose_bias(bias: Tensor, heatmap: Tensor, config: PanopticConfig) -> None:
    """Move the heatmap so that the best ``PEAKS`` of its peaks pass the threshold."""
    peaks = heatmap[torch.nn.functional.max_pool2d(heatmap, 3, 1, 1) == heatmap]
    worst = peaks.sort(descending=True).values[min(PEAKS, len(peaks)) - 1]
    threshold = config.score_threshold
    bias.data += math.log(threshold / (1 - threshold)) - float(worst)
