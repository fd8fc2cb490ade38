"""One block learned: the rounded block's output against the float block's.

    minimise over factors s and clips c     sum over tokens | B~(x~; s, c) - B(x) |² / | B(x) |²

x is what the float blocks before hand on, x~ what the rounded ones do (I-LLM, arXiv:2405.17849,
section 3.1; the division is ours, see `FsbrPlan.objective`). AdamW, one piece of text a step. The
epoch with the least mean loss is kept, and only if it is better than the start on pieces of text
that took no part. Blocks are run and learned on the task's device; texts wait in main memory, where
GPTQ, too, does its part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calibration.fsbr.block import Block, rounded, run_block, smoothed
from calibration.fsbr.held import Held, held_errors
from calibration.fsbr.parameters import Parameters, tensors
from calibration.fsbr.plan import FsbrPlan
from calibration.fsbr.rounding import Levels
from exporters.errors import UserError
from exporters.illm.config import Config
from exporters.illm.learned import LearnedLayer
from exporters.illm.smoothing import Factors, smooth
from exporters.illm.source import Layer

CPU = torch.device("cpu")

_JUDGED_SHARE = 8  # one piece in so many takes no part in learning


@dataclass(frozen=True)
class Pieces:
    """Texts at one block, float32 ``[tokens, hidden]`` each.

    Attributes:
        inputs: of the rounded network. targets: outputs of the float network.
        own: outputs of the float block for ``inputs``, where the plan augments.
    """

    inputs: Sequence[Tensor]
    targets: Sequence[Tensor]
    own: Sequence[Tensor] = ()

    @property
    def judged(self) -> int:
        """How many pieces, the last ones, take no part in learning."""
        return max(1, len(self.inputs) // _JUDGED_SHARE)


@dataclass(frozen=True)
class BlockLoss:
    """Losses of one block on pieces that took no part in learning.

    Attributes:
        nearest: without smoothing and clipping, weights rounded to nearest. start: with what
            learning began with, and the plan's rounding. learned: of the epoch that was kept.
            kept: false where the start was better, and stayed.
    """

    layer: int
    nearest: float
    start: float
    learned: float
    epoch: int
    kept: bool


@dataclass(frozen=True)
class Task:
    """A block to learn.

    Attributes:
        start: factors to begin with.
        inputs: of the float network, for GPTQ's moments; none where weights are rounded to nearest.
        device: where the block is run and learned.
    """

    index: int
    layer: Layer
    start: Factors
    config: Config
    levels: Levels
    plan: FsbrPlan
    inputs: Sequence[Tensor] = ()
    device: torch.device = CPU

    def held(self, learned: LearnedLayer) -> Held:
        """How the layer's weights are rounded with what was learned; on the device."""
        if not self.inputs:
            return Held(clips=tensors(learned)[1]).to(self.device)
        layer = smooth(self.layer, learned.factors, self.config)
        return held_errors(layer, self.inputs, self.config, self.levels).to(self.device)


def reconstruct(
    task: Task, pieces: Pieces, tick: Callable[[int], None]
) -> tuple[LearnedLayer, BlockLoss]:
    """Learn one block.

    Args:
        tick: told the number of every epoch that has ended.

    Raises:
        UserError: the loss is not a number.
    """
    with task.device:
        parameters = Parameters(task.start, Block.of(task.layer), task.config, task.plan)
    unclipped = replace(parameters.learned(), clipping={})
    nearest = _judged(task, LearnedLayer(), Held(), pieces)
    start = _judged(task, unclipped, task.held(unclipped), pieces)
    best, epoch = _learned(task, parameters, pieces, tick)
    loss = _judged(task, best, task.held(best), pieces)
    kept = loss < start
    entry = BlockLoss(task.index, nearest, start, loss, epoch, kept)
    return best if kept else unclipped, entry


def outputs(task: Task, learned: LearnedLayer, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What the rounded block hands on, in main memory."""
    held = task.held(learned)
    with torch.no_grad(), task.device:
        block = _rounded(task, tensors(learned)[0], held)
        found = (run_block(x.to(task.device), block, task.config, task.levels) for x in inputs)
        return [x.cpu() for x in found]


def _learned(
    task: Task, parameters: Parameters, pieces: Pieces, tick: Callable[[int], None]
) -> tuple[LearnedLayer, int]:
    """The parameters after the epoch of least mean loss, and its number from 1 on."""
    plan, count = task.plan, len(pieces.inputs) - pieces.judged
    random = torch.Generator().manual_seed(plan.seed * 100_003 + task.index)
    optimizer = parameters.optimizer()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs * count)
    best, best_epoch, least = parameters.learned(), 0, math.inf
    for epoch in range(1, plan.epochs + 1):
        total, held = 0.0, task.held(parameters.learned()) if task.inputs else Held()
        for piece in torch.randperm(count, generator=random).tolist():
            optimizer.zero_grad()
            ends = held if task.inputs else Held(clips=parameters.clips)
            with task.device:
                block = _rounded(task, parameters.factors, ends)
                loss = _loss(task, block, pieces, piece)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        if not math.isfinite(total):
            raise UserError(
                f"the loss of layer {task.index} is {total} in epoch {epoch}",
                fix="Check the weights, or give a lower --rate",
            )
        if total < least:
            best, best_epoch, least = parameters.learned(), epoch, total
        tick(epoch)
    return best, best_epoch


def _rounded(task: Task, factors: Mapping[str, Tensor], held: Held) -> Block:
    return rounded(smoothed(Block.of(task.layer), factors, task.config), task.levels, held)


def _judged(task: Task, learned: LearnedLayer, held: Held, pieces: Pieces) -> float:
    count, judged = len(pieces.inputs), pieces.judged
    with torch.no_grad(), task.device:
        block = _rounded(task, tensors(learned)[0], held)
        found = [_loss(task, block, pieces, i).item() for i in range(count - judged, count)]
    return sum(found) / judged


def _loss(task: Task, block: Block, pieces: Pieces, piece: int) -> Tensor:
    device = task.device
    found = run_block(pieces.inputs[piece].to(device), block, task.config, task.levels)
    loss = _distance(found, pieces.targets[piece].to(device), task.plan.objective)
    if pieces.own:
        loss = loss + _distance(found, pieces.own[piece].to(device), task.plan.objective)
    return loss


def _distance(found: Tensor, right: Tensor, objective: str) -> Tensor:
    error = (found - right).square()
    if objective == "mse":
        return error.mean()
    return (error.sum(-1) / right.square().sum(-1).clamp_min(1e-12)).mean()
