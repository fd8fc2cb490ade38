"""Seeded random weights that behave like trained ones, for when there is no checkpoint.

One forward pass over generated points sets every scale: BatchNorm takes the statistics that it
sees, and what no BatchNorm follows is scaled to outputs of unit variance (arXiv:1511.06422). Class
biases are chosen so that a street's worth of boxes comes out, sizes so that they are those of
vehicles. Such weights serve tests, timings and error measurements; they know nothing of the world.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporters.pillarhist.config import Config
from exporters.pillarhist.heads import AnchorHeadSingle, CenterHead, SeparateHead
from exporters.pillarhist.model import PillarDetector

_BOXES = 60
"""Places whose score is at least a half, on the generated points."""

_SPREAD = 0.25  # of box terms: about a metre around the anchor
_SENSOR_M = 1.7  # above the ground


def initialise(network: PillarDetector, seed: int) -> None:
    """Set all weights in place; the same seed gives the same weights on one machine."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.from_numpy(generated_points(network.config, seed))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    fan = module.weight.shape[0]
                module.weight.normal_(0.0, math.sqrt(2.0 / fan), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the statistics as they are, not a moving average
            norm.train()
        features = network.backbone_2d(network.vfe(points))
        _settle(network.dense_head, features)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    network.eval()


def generated_points(config: Config, seed: int) -> NDArray[np.float32]:
    """A street as a turning LiDAR sees it: rings on the ground, sides of vehicles, poles.

    ``[rows, columns]``; rows beyond the points are far outside.
    """
    random = np.random.default_rng(seed)
    reach = float(np.max(np.abs((*config.grid.low[:2], *config.grid.high[:2]))))
    angles = np.linspace(-np.pi, np.pi, 1800, endpoint=False)
    rings = _SENSOR_M / np.tan(np.radians(np.linspace(1.5, 24.0, 32)))
    distance = (rings[:, None] * np.ones_like(angles)).ravel()
    ground = np.stack(
        [
            distance * np.cos(np.tile(angles, len(rings))),
            distance * np.sin(np.tile(angles, len(rings))),
            np.full(distance.shape, -_SENSOR_M),
        ],
        axis=1,
    )
    parts = [ground + random.normal(0, 0.02, ground.shape)]
    for _ in range(60):
        middle = random.uniform(-0.9 * reach, 0.9 * reach, 2)
        size = (4.2, 1.8, 1.6) if random.random() < 0.7 else (0.6, 0.6, 1.8)
        count = int(np.clip(4000 / (1 + np.hypot(*middle)), 20, 400))
        sides = random.uniform(-0.5, 0.5, (count, 3)) * size
        sides[:, random.integers(0, 2)] = -size[0] / 2 if random.random() < 0.5 else size[1] / 2
        turn = random.uniform(-np.pi, np.pi)
        cos, sin = np.cos(turn), np.sin(turn)
        sides[:, :2] = sides[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + middle
        sides[:, 2] += size[2] / 2 - _SENSOR_M
        parts.append(sides)
    places = random.permutation(np.concatenate(parts))
    low, high = np.array(config.grid.low), np.array(config.grid.high)
    places = places[((places >= low) & (places < high)).all(axis=1)][: config.rows]
    points = np.full((config.rows, len(config.columns)), -10_000.0, np.float32)
    points[: len(places), :3] = places
    points[: len(places), 3] = random.beta(1, 3, len(places)) * config.intensity_max
    if len(config.columns) > 4:
        points[: len(places), 4] = 0.05 * random.integers(0, 10, len(places))
    return points


def _settle(head: AnchorHeadSingle | CenterHead, features: Tensor) -> None:
    if isinstance(head, AnchorHeadSingle):
        _scale(head.conv_cls, features, 1.0)
        _scale(head.conv_box, features, _SPREAD)
        _scale(head.conv_dir_cls, features, 1.0)
        _choose_bias(head.conv_cls, features, _BOXES)
        return
    shared = head.shared_conv(features)
    for task in head.heads_list:
        assert isinstance(task, SeparateHead)
        for name in task.names:
            branch = task.get_submodule(name)
            hidden = branch.get_submodule("0")(shared)
            last = branch.get_submodule("1")
            assert isinstance(last, nn.Conv2d)
            _scale(last, hidden, 1.0 if name in ("hm", "rot", "vel") else _SPREAD)
            if name == "hm":
                _choose_bias(last, hidden, _BOXES // len(head.heads_list))
            elif name == "dim":
                last.get_parameter("bias").copy_(torch.log(torch.tensor([4.2, 1.8, 1.6])))
            elif name == "center_z":
                last.get_parameter("bias").fill_(-0.9)


def _scale(conv: nn.Conv2d, features: Tensor, spread: float) -> None:
    """Outputs that vary by ``spread`` over the map, around 0."""
    out = conv(features)
    gain = spread / out.std(dim=(0, 2, 3)).clamp(min=1e-6)
    conv.weight.mul_(gain[:, None, None, None])
    conv.get_parameter("bias").copy_(-conv(features).mean(dim=(0, 2, 3)))


def _choose_bias(conv: nn.Conv2d, features: Tensor, places: int) -> None:
    """So that ``places`` outputs are above 0, a score of one half."""
    values = conv(features).flatten()
    highest = values.topk(min(places, values.numel())).values
    conv.get_parameter("bias").sub_(highest[-1])
