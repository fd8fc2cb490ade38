"""Seeded random weights that behave like trained ones, for when there is no checkpoint.

Kaiming initialisation alone lets activations grow from block to block and gives a constant label
map. Here one forward pass over generated images sets every scale (layer-sequential unit variance,
arXiv:1511.06422): BatchNorm takes the statistics that it sees, and convolutions without BatchNorm
are rescaled to outputs of unit variance. The class bias is then centred so that labels vary across
the map and most voxels are free, as in real scenes.

Such weights serve tests, timings and error measurements. They know nothing about the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporters.flashocc.config import Config
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.layers import BasicBlock
from exporters.flashocc.resnet import Bottleneck

FREE_SHARE = 0.9
"""Share of free voxels on the generated images; in real labels it is about 0.97."""

RESIDUAL_GAIN = 0.15
"""Weight of a residual branch beside its shortcut. With full weight a random network is chaotic; so
one per cent of noise in every layer of M0 arrives as eight per cent at the logits."""


def initialise(
    network: nn.Module,
    config: Config,
    *,
    cameras: int,
    seed: int,
    logits_of: Callable[[Tensor], Tensor],
) -> None:
    """Set all weights of ``network`` in place; the same seed gives the same weights.

    Equality of bits needs the same PyTorch and CPU arithmetic, since statistics are measured.

    Args:
        logits_of: one forward pass, from images ``[N, 3, H, W]`` to ``[nx, ny, nz, classes]``.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(generated_images(cameras, config.view.image_size, seed))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _draw(module, generator)
            elif isinstance(module, Bottleneck | BasicBlock):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                last.weight.fill_(RESIDUAL_GAIN)
        with _measuring(network, cameras):
            logits = logits_of(CameraInput()(images))
        classifier = list(network.get_submodule("occ_head.predicter").children())[-1]
        assert isinstance(classifier, nn.Linear)
        _centre_classes(classifier, config, logits)
    network.eval()


def generated_images(count: int, size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Images with the spectrum of photographs (power falls with frequency), uint8 ``[N, H, W, 3]``.

    Each is a sum of random blocks, every octave half as large and half as strong as the one before.
    """
    height, width = size
    random = np.random.default_rng(seed)
    image = np.zeros((count, height, width, 3))
    block, strength = height // 4, 64.0
    while block >= 2:
        shape = (count, -(-height // block), -(-width // block), 3)
        grey = random.standard_normal((*shape[:3], 1))
        coarse = grey + 0.3 * random.standard_normal(shape)
        fine = coarse.repeat(block, axis=1).repeat(block, axis=2)
        image += strength * fine[:, :height, :width]
        block, strength = block // 2, strength / 2
    return np.clip(image + 112.0, 0, 255).astype(np.uint8)


def _draw(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Kaiming's rule for ReLU networks: variance 2 / fan-in."""
    module.weight.normal_(0.0, math.sqrt(2.0 / module.weight[0].numel()), generator=generator)
    if module.bias is not None:
        module.bias.zero_()


@contextmanager
def _measuring(network: nn.Module, cameras: int) -> Iterator[None]:
    """While this holds, a forward pass sets the scale of every layer that it reaches."""
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            if cameras == 1 and "global_avg_pool" in name:
                continue  # one value a channel has no variance
            layer.reset_running_stats()
            layer.momentum = None  # take the statistics as they are, not a moving average
            layer.train()
        elif isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            hooks.append(layer.register_forward_hook(_to_unit_variance))  # no BatchNorm follows
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
                module.eval()


def _to_unit_variance(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ARG001
    """Forward hook: scale weights and output so that channels vary by one over the map."""
    channels_last = output.movedim(1, -1) if isinstance(module, nn.Conv2d) else output
    values = channels_last.flatten(0, -2)
    if len(values) < 2:
        return output
    variance = values.var(dim=0).mean()
    scale = 1.0 / (math.sqrt(float(variance)) + 1e-12)
    module.get_parameter("weight").mul_(scale)
    return output * scale


def _centre_classes(last: nn.Linear, config: Config, logits: Tensor) -> None:
    """Choose the last bias so that no class wins everywhere and ``FREE_SHARE`` of voxels are free.

    Args:
        logits: ``[nx, ny, nz, classes]`` with the bias at zero.
    """
    free = config.free_class
    bias = -logits.mean(dim=(0, 1))
    centred = logits + bias
    others = centred.clone()
    others[..., free] = -math.inf
    margin = (others.amax(-1) - centred[..., free]).flatten()
    bias[:, free] += margin.kthvalue(max(1, round(FREE_SHARE * margin.numel()))).values
    last.bias.copy_(bias.flatten())
