"""Turns of a LiDAR as batches: changed a little, cut into pillars, with the targets of the head.

A turn is mirrored left and right, turned by up to 45 degrees (by any angle where the whole circle
is there) and scaled by 0.95 to 1.05; pedestrians and cyclists of other turns are put into it first,
where they stood there, as SECOND does (Sensors 2018, 18(10), 3337). Points are shuffled: encoders
with a cap keep the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from exporters.pillarhist.config import Config
from exporters.pillarhist.encoders import (
    HardPFN,
    PillarEncoder,
    PillarHist,
    decorated,
    inside,
    pillar_centres,
)
from training.box_targets import BoxTargets, targets_of
from training.clouds import returns_of

Array = NDArray[Any]
Turn = Mapping[str, Array]

LEAST_RETURNS = 3
"""Boxes with fewer points are not asked for."""

_TURN = math.pi / 4
_SCALES = (0.95, 1.05)
_PASTED = {1: 2, 2: 3}
"""Class to how many of other turns are put into one: what streets have few of."""

_PASTED_RETURNS = 8
_APART_M = 0.3


@dataclass(frozen=True)
class Thing:
    """One object of a turn: its box ``[8]`` and its points ``[n, 4]``."""

    box: Array
    points: Array


class Things:
    """Objects to put into other turns, by sensor and class."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._by_kind: dict[tuple[bool, int], list[Thing]] = {}
        for turn in turns:
            returns = returns_of(turn)
            for row, box in enumerate(turn["boxes"]):
                kind = int(box[0])
                if kind in _PASTED and returns[row] >= _PASTED_RETURNS:
                    thing = Thing(box, turn["points"][turn["owner"] == row])
                    self._by_kind.setdefault((bool(turn["ahead"]), kind), []).append(thing)

    def chosen(self, ahead: bool, rng: Generator) -> list[Thing]:
        found = []
        for kind, count in _PASTED.items():
            shelf = self._by_kind.get((ahead, kind), [])
            if shelf:
                found += [shelf[i] for i in rng.integers(len(shelf), size=rng.integers(count + 1))]
        return found


def with_things(points: Array, boxes: Array, things: Sequence[Thing]) -> tuple[Array, Array]:
    """Points and boxes with those ``things`` that stand in no other's way."""
    kept, clouds = boxes, points
    for thing in things:
        radius = np.hypot(thing.box[4], thing.box[5]) / 2
        others = np.hypot(kept[:, 4], kept[:, 5]) / 2
        distance = np.hypot(*(kept[:, 1:3] - thing.box[1:3]).T)
        if (distance < radius + others + _APART_M).any():
            continue
        free = ~_within(clouds, thing.box)
        clouds = np.concatenate([clouds[free], thing.points])
        kept = np.concatenate([kept, thing.box[None]])
    return clouds, kept


def changed(points: Array, boxes: Array, rng: Generator, *, ahead: bool) -> tuple[Array, Array]:
    """Mirrored, turned and scaled at random; ``boxes`` are ``[m, 8]`` with the class first."""
    points, boxes = points.copy(), boxes.copy()
    if rng.random() < 0.5:
        points[:, 1] *= -1
        boxes[:, [2, 7]] *= -1
    angle = rng.uniform(-_TURN, _TURN) if ahead else rng.uniform(-math.pi, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    back = np.array([[cos, sin], [-sin, cos]], np.float32)
    points[:, :2] = points[:, :2] @ back
    boxes[:, 1:3] = boxes[:, 1:3] @ back
    boxes[:, 7] += angle
    scale = np.float32(rng.uniform(*_SCALES))
    points[:, :3] *= scale
    boxes[:, 1:7] *= scale
    return points, boxes


def example(turn: Turn, things: Things | None, rng: Generator) -> tuple[Array, Array]:
    """Points ``[n, 4]`` and boxes ``[m, 8]`` to learn from; as they are without ``things``."""
    boxes = turn["boxes"][returns_of(turn) >= LEAST_RETURNS]
    points = turn["points"]
    if things is not None:
        ahead = bool(turn["ahead"])
        points, boxes = with_things(points, boxes, things.chosen(ahead, rng))
        points, boxes = changed(points, boxes, rng, ahead=ahead)
    return rng.permutation(points), boxes


def batch_of(
    examples: Sequence[tuple[Array, Array]], encoder: PillarEncoder, config: Config
) -> dict[str, Any]:
    """What `training.pillar_trainee.PillarTrainee` takes.

    Returns:
        ``rows`` that the encoder's layer sees, of all clouds; ``pillars``, their places in the
        canvases of all clouds one after another; ``clouds``, an empty tensor of their number; and
        the `BoxTargets` as a dict.
    """
    rows, pillars = [], []
    for number, (points, _) in enumerate(examples):
        one, place = encoder_rows(encoder, torch.from_numpy(points))
        rows.append(one)
        pillars.append(place + number * config.grid.pillars)
    targets: BoxTargets = targets_of([boxes for _, boxes in examples], config)
    return {
        "rows": torch.cat(rows),
        "pillars": torch.cat(pillars),
        "clouds": torch.empty(len(examples)),
        **targets,
    }


def encoder_rows(encoder: PillarEncoder, points: Tensor) -> tuple[Tensor, Tensor]:
    """What the first layer of an encoder sees, and the pillars' places ``[V]``.

    Raises:
        TypeError: an encoder whose layers see points of no fixed number.
    """
    if isinstance(encoder, PillarHist):
        return encoder.rows(points)
    if isinstance(encoder, HardPFN):
        voxels, counts, pillars = fast_voxels(encoder, points)
        centres = pillar_centres(pillars, encoder.grid)
        return decorated(voxels, counts, centres, encoder.grid), pillars
    raise TypeError(type(encoder).__name__)


def fast_voxels(encoder: HardPFN, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``encoder.voxelize`` without a loop over points; pillars in order of their places."""
    kept, place = inside(points, encoder.grid)
    order = torch.argsort(place, stable=True)
    pillars, counts = torch.unique_consecutive(place[order], return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(order)) - torch.repeat_interleave(starts, counts)
    number = torch.repeat_interleave(torch.arange(len(pillars)), counts)
    if len(pillars) > encoder.encoder.pillars:
        raise ValueError(f"{len(pillars)} pillars, the encoder takes {encoder.encoder.pillars}")
    taken = rank < encoder.encoder.points
    voxels = kept.new_zeros(len(pillars), encoder.encoder.points, kept.shape[1])
    voxels[number[taken], rank[taken]] = kept[order][taken]
    return voxels, counts.clamp(max=encoder.encoder.points), pillars


def _within(points: Array, box: Array) -> NDArray[np.bool_]:
    """Which points stand inside a box, seen from above."""
    away = points[:, :2] - box[1:3]
    cos, sin = math.cos(box[7]), math.sin(box[7])
    along, across = away @ [cos, sin], away @ [-sin, cos]
    inner: NDArray[np.bool_] = (np.abs(along) < box[4] / 2) & (np.abs(across) < box[5] / 2)
    return inner
