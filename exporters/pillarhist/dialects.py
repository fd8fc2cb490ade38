"""PointPillars of MMDetection3D and of zhulf0804 as the same function under OpenPCDet's names.

Both list their classes as pedestrian, cyclist, car, with their anchors in that order and in the
middles of cells, and name stages without the padding layer that OpenPCDet's begin with. Both
overwrite x and y (MMDetection3D also z) of a point by its distance from the pillar's middle, so
their layer sees those twice: the sum of the two columns, with nothing for x, y and z themselves, is
the same layer for OpenPCDet's input.

| | MMDetection3D, from 1.0 on | zhulf0804/PointPillars |
|---|---|---|
| a point | 10 numbers, z of the middle among them | 9, without it |
| a box | OpenPCDet's | width before length; theirs is ``-yaw - pi / 2`` of ours |
| direction 0 is a yaw from | -pi / 2 | 0 of theirs, -3 pi / 2 of ours |

Terms of a box are linear in the last layer, so its rows are exchanged and turned once, at loading.
What follows the head is OpenPCDet's: suppression over all classes, where both suppress in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporters.checkpoints import Checkpoint, Dialect, NamedTensors, apply_dialect
from exporters.errors import UserError
from exporters.pillarhist.config import AnchorHead, Config, HardPillars

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]

_CLASSES = ("Pedestrian", "Cyclist", "Car")
_ENCODER = "vfe.pfn_layers.0.linear.weight"
_BOX = "dense_head.conv_box."
_TERMS = 7

_MMDETECTION3D = Dialect(
    renames={
        r"^voxel_encoder\.": "vfe.",
        r"^backbone\.blocks\.": "backbone_2d.blocks.",
        r"^neck\.deblocks\.": "backbone_2d.deblocks.",
        r"^bbox_head\.conv_reg\.": _BOX,
        r"^bbox_head\.": "dense_head.",
    }
)
_ZHULF0804 = Dialect(
    renames={
        r"^pillar_encoder\.conv\.": "vfe.pfn_layers.0.linear.",
        r"^pillar_encoder\.bn\.": "vfe.pfn_layers.0.norm.",
        r"^backbone\.multi_blocks\.": "backbone_2d.blocks.",
        r"^neck\.decoder_blocks\.": "backbone_2d.deblocks.",
        r"^head\.conv_reg\.": _BOX,
        r"^head\.": "dense_head.",
    }
)


@dataclass(frozen=True)
class Foreign:
    """A checkpoint under OpenPCDet's names, and the network that it belongs to."""

    config: Config
    named: NamedTensors
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Family:
    """Whose checkpoint it is.

    Attributes:
        mark: what its keys contain and no other's do.
        inputs: of the encoder.
        rewrite: tensors under OpenPCDet's names to those of the same function.
        rotations, direction_offset: of the head, in OpenPCDet's yaw.
    """

    name: str
    mark: str
    dialect: Dialect
    inputs: int
    rewrite: Callable[[Tensors], Tensors]
    rotations: tuple[float, float]
    direction_offset: float
    notes: tuple[str, ...]


def from_elsewhere(variant: str, config: Config, checkpoint: Checkpoint) -> Foreign | None:
    """None for a checkpoint of neither family.

    Raises:
        UserError: it is of one, and not of the variant.
    """
    family = next(
        (f for f in _FAMILIES if any(f.mark in f".{name}" for name in checkpoint.tensors)), None
    )
    if family is None:
        return None
    if not (isinstance(config.encoder, HardPillars) and isinstance(config.head, AnchorHead)):
        raise UserError(
            f"checkpoint {checkpoint.path} is {family.name} PointPillars, which is no {variant}",
            fix=f"Run: edgeport export pointpillars-kitti --checkpoint {checkpoint.path}",
        )
    named = apply_dialect(checkpoint, family.dialect)
    tensors = {_after_padding(name): value for name, value in named.tensors.items()}
    weight = tensors.get(_ENCODER)
    if weight is None or weight.ndim < 2 or weight.shape[1] != family.inputs:
        raise UserError(
            f"checkpoint {checkpoint.path}: its encoder is not that of {family.name} PointPillars "
            f"on KITTI ({family.inputs} inputs)",
            fix="Checkpoints for three classes of KITTI are read",
        )
    order = [config.classes.index(name) for name in _CLASSES]
    head = replace(
        config.head,
        anchors=tuple(config.head.anchors[i] for i in order),
        rotations=family.rotations,
        direction_offset=family.direction_offset,
        middles=True,
    )
    renamed = {_after_padding(name): old for name, old in named.renamed.items()}
    named = replace(named, tensors=family.rewrite(tensors), renamed=renamed)
    return Foreign(replace(config, classes=_CLASSES, head=head), named, family.notes)


def _after_padding(name: str) -> str:
    """OpenPCDet's stages begin with a padding layer, which counts; others' do not."""
    parts = name.split(".")
    if parts[:2] == ["backbone_2d", "blocks"]:
        parts[3] = str(int(parts[3]) + 1)
    return ".".join(parts)


def _mmdetection3d(tensors: Tensors) -> Tensors:
    """Ten inputs: x, y, z, i, 3 from the mean, 3 from the middle; the last three twice."""
    import torch

    weight = tensors[_ENCODER]
    nothing = torch.zeros_like(weight[:, :3])
    parts = [nothing, weight[:, 3:7], weight[:, 7:10] + weight[:, :3]]
    return {**tensors, _ENCODER: torch.cat(parts, dim=1)}


def _zhulf0804(tensors: Tensors) -> Tensors:
    """Nine inputs: x, y, z, i, 3 from the mean, 2 from the middle; the last two twice."""
    import torch

    weight = tensors[_ENCODER].squeeze(-1)  # a Conv1d
    nothing = torch.zeros_like(weight[:, :2])
    parts = [nothing, weight[:, 2:7], weight[:, 7:9] + weight[:, :2], nothing[:, :1]]
    made = {**tensors, _ENCODER: torch.cat(parts, dim=1)}
    for name in (f"{_BOX}weight", f"{_BOX}bias"):
        if name in tensors:
            made[name] = _boxes_turned(tensors[name])
    return made


def _boxes_turned(rows: Tensor) -> Tensor:
    """Seven rows an anchor: length before width, and the other direction of turning."""
    terms = rows.reshape(-1, _TERMS, *rows.shape[1:])[:, [0, 1, 2, 4, 3, 5, 6]]
    terms[:, 6] *= -1
    return terms.reshape(rows.shape)


_SUPPRESSION = "suppression is OpenPCDet's, over all classes; upstream suppresses in each class"

_FAMILIES = (
    _Family(
        "MMDetection3D's",
        ".voxel_encoder.pfn_layers.",
        _MMDETECTION3D,
        10,
        _mmdetection3d,
        (0.0, 1.57),
        -math.pi / 2,
        (
            "read as MMDetection3D 1.0 or later; boxes of earlier versions have another yaw",
            "its encoder overwrites x, y, z by their distance from the pillar (legacy): rewritten",
            _SUPPRESSION,
        ),
    ),
    _Family(
        "zhulf0804's",
        ".pillar_encoder.conv.",
        _ZHULF0804,
        9,
        _zhulf0804,
        (-math.pi / 2, -1.57 - math.pi / 2),
        -3 * math.pi / 2,
        ("its boxes have another yaw and order of sizes: rewritten", _SUPPRESSION),
    ),
)
