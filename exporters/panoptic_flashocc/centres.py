"""From centre maps to instances, in numpy: what the exported graph computes, written to be read.

Centres (CenterPoint's decoding, arXiv:2006.11275)::

    score = sigmoid(heatmap), kept where it equals the maximum of its 3x3 neighbourhood
    the best ``max_centres`` of all classes together, those above ``score_threshold``
    metres  = (cell + reg) * step + low   for x and y,  height for z
    voxel   = trunc((metres - low) / step)

Every voxel of a thing class takes the centre of its class with the smallest squared distance of
integer voxel indices (arXiv:2406.10527); of centres equally near, the one with the higher score. A
voxel keeps its label alone where its class has no centre. There is no limit to the distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError, did_you_mean
from exporters.flashocc.geometry import Grid
from exporters.panoptic_flashocc.config import HEAD_CLASSES

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

THING_CLASSES = (
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "trailer",
    "truck",
)
"""Occupancy classes with instances. Barrier and traffic cone have centres, but the metric counts
them as stuff."""

_COMPAT = (
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
)

CLASS_MAPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fixed": HEAD_CLASSES, "compat": _COMPAT}
)
"""The occupancy class that each heatmap channel stands for.

The released code names the channels in another order than its network was trained with: trailers
and construction vehicles change places, bicycles gather round barriers, pedestrians round
bicycles. ``compat`` does the same and so reproduces the published RayPQ; ``fixed`` is right."""


@dataclass(frozen=True)
class CentreRules:
    """What decides which centres count.

    Attributes:
        class_map: key of ``CLASS_MAPS``.
        max_centres: best centres that are looked at, all classes together.
        range_m: largest |x|, |y| and |z| of a centre, metres in the ego frame.
        thing_voxels: voxels that can be assigned in one frame. The graph has fixed shapes, so it
            needs a bound; those beyond it, counted from the lowest slice up, get no instance.
    """

    class_map: str = "fixed"
    max_centres: int = 500
    score_threshold: float = 0.3
    range_m: tuple[float, float, float] = (61.2, 61.2, 10.0)
    thing_voxels: int = 65_536

    def __post_init__(self) -> None:
        if self.class_map not in CLASS_MAPS:
            raise UserError(
                f"--class-map is {self.class_map!r}", fix=did_you_mean(self.class_map, CLASS_MAPS)
            )
        if not 1 <= self.max_centres <= _TOPK_LIMIT:
            raise UserError(
                f"--max-centres is {self.max_centres}",
                fix=f"Choose 1 to {_TOPK_LIMIT}: TensorRT's TopK takes no more",
            )
        if not 0.0 <= self.score_threshold < 1.0:
            raise UserError(f"--score-threshold is {self.score_threshold}", fix="Choose 0 to 1")
        if self.thing_voxels < 1:
            raise UserError(f"--thing-voxels is {self.thing_voxels}", fix="Choose 1 or more")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "range_m": list(self.range_m)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CentreRules:
        x, y, z = data["range_m"]
        return cls(**{**data, "range_m": (float(x), float(y), float(z))})


_TOPK_LIMIT = 3840


@dataclass(frozen=True)
class Centres:
    """Centres that count, the best first.

    Attributes:
        rank: int32 ``[n]``, position among the best centres before range and score were asked.
        voxel: int32 ``[n, 3]``, x, y, z; may lie outside the grid.
        channel: int32 ``[n]``, heatmap channel.
        score: float32 ``[n]``.
    """

    rank: Ints
    voxel: Ints
    channel: Ints
    score: Floats


def thing_channels(classes: Sequence[str], class_map: str) -> Ints:
    """For every heatmap channel the label of its thing class, -1 where it stands for none."""
    return np.array(
        [
            classes.index(name) if name in THING_CLASSES and name in classes else -1
            for name in CLASS_MAPS[class_map]
        ],
        np.int32,
    )


def decode_centres(
    reg: Floats, height: Floats, heatmap: Floats, grid: Grid, rules: CentreRules
) -> Centres:
    """Centres from the maps of a centre head.

    Args:
        reg, height, heatmap: ``[1, 2, ny, nx]``, ``[1, 1, ny, nx]`` and ``[1, 10, ny, nx]``; see
            ``CentreMaps``.
    """
    with np.errstate(over="ignore"):
        scores = 1 / (1 + np.exp(-heatmap[0].astype(np.float32)))
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    peaks = np.where(windows.max((-2, -1)) == scores, scores, np.float32(0)).ravel()
    best = np.argsort(-peaks, kind="stable")[: rules.max_centres]
    channel, row, column = np.unravel_index(best, scores.shape)
    metres = np.stack(
        [
            _metres(column, reg[0, 0, row, column], grid.x),
            _metres(row, reg[0, 1, row, column], grid.y),
            height[0, 0, row, column],
        ],
        axis=-1,
    )
    low = np.array([grid.x[0], grid.y[0], grid.z_out[0]], np.float32)
    step = np.array([grid.x[2], grid.y[2], grid.z_out[2]], np.float32)
    counts = (np.abs(metres) <= np.array(rules.range_m, np.float32)).all(-1)
    counts &= peaks[best] > np.float32(rules.score_threshold)
    voxel = np.trunc((metres[counts] - low) / step)
    return Centres(
        np.flatnonzero(counts).astype(np.int32),
        voxel.astype(np.int32),
        channel[counts].astype(np.int32),
        peaks[best][counts],
    )


def assign_instances(
    labels: NDArray[np.uint8],
    centres: Centres,
    channel_labels: Ints,
    thing_voxels: int | None = None,
) -> Ints:
    """The instance of every voxel, int32 like ``labels``; 0 where there is none.

    Args:
        labels: uint8 ``[nx, ny, nz]``.
        channel_labels: result of :func:`thing_channels`.
        thing_voxels: bound on the thing voxels, see :class:`CentreRules`; None for no bound.

    Returns:
        ``1 + rank`` of the nearest centre of the voxel's class.
    """
    instances = np.zeros(labels.shape, np.int32)
    classes = channel_labels[centres.channel]
    for label in np.unique(classes[classes >= 0]):
        of_class = np.flatnonzero(classes == label)
        voxels = np.argwhere(labels == label)
        difference = voxels[:, None].astype(np.int64) - centres.voxel[of_class]
        nearest = (difference**2).sum(-1).argmin(1)
        instances[tuple(voxels.T)] = 1 + centres.rank[of_class[nearest]]
    if thing_voxels is not None:
        things = np.isin(labels, channel_labels[channel_labels >= 0])
        number = things.transpose(2, 1, 0).ravel().cumsum().reshape(labels.shape[::-1])
        instances[number.transpose(2, 1, 0) > thing_voxels] = 0
    return instances


def panoptic_ids(labels: NDArray[np.uint8], instances: Ints, classes: int) -> Ints:
    """One number a voxel, as RayPQ takes it: its label, or ``classes`` and more for an instance."""
    return np.where(instances > 0, classes - 1 + instances, labels).astype(np.int32)


def _metres(cell: NDArray[np.intp], offset: Floats, axis: tuple[float, float, float]) -> Floats:
    low, _, step = (np.float32(value) for value in axis)
    metres: Floats = (cell.astype(np.float32) + offset) * step + low
    return metres
