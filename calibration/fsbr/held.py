"""Weights as GPTQ rounds them, while factors are learned.

GPTQ takes seconds a block, a step of the optimizer a fraction of one. So what it does to each
weight, in steps of the column's scale, is computed once an epoch and held:

    W~(s) = W(s) + e c max|W(s)| / Q,     e = (GPTQ(W(s')) - W(s')) Q / (c max|W(s')|)

with s' the factors at the epoch's beginning and c where GPTQ lets the scale end. Gradients pass as
they do with rounding to nearest, whose e is that of every step (`calibration.fsbr.rounding`). After
the last epoch GPTQ rounds once more, as the exporter will.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from calibration.fsbr.rounding import Levels
from exporters.illm.config import Config
from exporters.illm.float_decoder import SINK_TOKENS, run_layer
from exporters.illm.rounding import Moments, best_clip, round_against
from exporters.illm.source import Layer
from exporters.illm.weights import LEVELS, clipped_peak

MATRICES = ("qkv", "output", "gate_up", "down")


@dataclass(frozen=True)
class Held:
    """By matrix.

    Attributes:
        clips: ``[out]``, the share of a column's peak that is the end of its scale.
        errors: ``[in, out]``, rounded less given weights, in steps of the column's scale; what has
            none is rounded to nearest.
    """

    clips: Mapping[str, Tensor] = field(default_factory=dict)
    errors: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Held:
        clips = {name: clip.to(device) for name, clip in self.clips.items()}
        return Held(clips, {name: error.to(device) for name, error in self.errors.items()})


def held_errors(layer: Layer, inputs: Sequence[Tensor], config: Config, levels: Levels) -> Held:
    """What GPTQ does to a layer's matrices.

    Args:
        layer: smoothed.
        inputs: of the float network, float32 ``[tokens, hidden]`` each, whose second moments count.
        levels: of weights and activations; both are rounded.
    """
    assert levels.weights is not None
    assert levels.activations is not None
    moments = Moments(levels.activations.levels)
    skip = SINK_TOKENS if len(inputs[0]) > 4 * SINK_TOKENS else 0
    with torch.no_grad():
        for text in inputs:
            run_layer(text, layer, config, moments, skip=skip)
    bits = next(bits for bits, steps in LEVELS.items() if steps == levels.weights)
    clips: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    for name in MATRICES:
        weight, of = getattr(layer, name), moments.by_matrix[name]
        clip = best_clip(weight, bits, of.diagonal().numpy())
        step = clipped_peak(weight, clip) / levels.weights
        error = (round_against(of, weight, bits, clip).real - weight) / step
        clips[name] = torch.from_numpy(clip.astype(np.float32))
        errors[name] = torch.from_numpy(error.astype(np.float32))
    return Held(clips, errors)
