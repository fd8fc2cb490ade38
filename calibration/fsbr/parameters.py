"""What one layer learns: logarithms of smoothing factors, and logits of clipping.

A factor is exp(p): positive, and a step of the optimizer is a share of it, be it 0.01 or 100. A
clip is sigmoid(u), u = 4 to begin with (0.982). Rotary pairs have one key factor for both halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.fsbr.block import Block
from calibration.fsbr.held import MATRICES
from calibration.fsbr.plan import FsbrPlan
from exporters.illm.config import Config
from exporters.illm.learned import LearnedLayer
from exporters.illm.smoothing import Factors

_OPEN = 4.0


class Parameters:
    """Learnable tensors of one layer.

    Args:
        start: factors to begin with, those of the plan's pairs; ones where it has none.
    """

    def __init__(self, start: Factors, block: Block, config: Config, plan: FsbrPlan) -> None:
        c, by_head = config, (config.kv_heads, config.head_dim)
        shapes: dict[str, tuple[int, ...]] = {"value": by_head, "key": by_head}
        shapes.update(attention=(c.hidden,), ffn=(c.hidden,), down=(c.ffn,), gate=(c.ffn,))
        self._logs: dict[str, Tensor] = {}
        for pair in plan.pairs(mixed=c.mixed):
            given = getattr(start, pair)
            first = torch.ones(shapes[pair]) if given is None else torch.as_tensor(given)
            if pair == "key":
                first = first[:, : c.head_dim // 2]
            self._logs[pair] = first.log().clone().requires_grad_()
        self._clips: dict[str, Tensor] = {}
        if plan.learns_clipping:
            for name in MATRICES:
                width = getattr(block, name).shape[1]
                self._clips[name] = torch.full((width,), _OPEN).requires_grad_()
        self._plan = plan

    def optimizer(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": list(self._logs.values()), "lr": self._plan.rate},
            {"params": list(self._clips.values()), "lr": self._plan.clip_rate},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.0)

    @property
    def factors(self) -> dict[str, Tensor]:
        """Of the shapes that `calibration.fsbr.block.smoothed` takes."""
        found = {pair: log.exp() for pair, log in self._logs.items()}
        if "key" in found:
            found["key"] = torch.cat([found["key"], found["key"]], -1)
        return found

    @property
    def clips(self) -> dict[str, Tensor]:
        return {name: torch.sigmoid(logit) for name, logit in self._clips.items()}

    def learned(self) -> LearnedLayer:
        """As arrays, of now."""
        factors = {name: _array(factor) for name, factor in self.factors.items()}
        return LearnedLayer(Factors(**factors), {n: _array(clip) for n, clip in self.clips.items()})


def tensors(learned: LearnedLayer) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
    """Factors and clips of a file, on torch's default device."""
    factors = {n: torch.as_tensor(f) for n, f in vars(learned.factors).items() if f is not None}
    return factors, {name: torch.as_tensor(clip) for name, clip in learned.clipping.items()}


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(tensor.detach().cpu().numpy(), np.float32)
