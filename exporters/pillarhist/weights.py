"""Checkpoints of pillar detectors: OpenPCDet's, and MMDetection3D's under OpenPCDet's names.

MMDetection3D (from 1.0 on, whose boxes are OpenPCDet's) lists its classes as pedestrian, cyclist,
car, with their anchors in that order. Its ``PillarFeatureNet`` overwrites x, y and z of a point by
their distance from the pillar's centre (``legacy=True``, the default): its layer then sees those
three twice. The sum of the two columns, with nothing for x, y and z themselves, is the same layer
for OpenPCDet's input, so nothing is lost in loading it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporters.checkpoints import (
    Checkpoint,
    Dialect,
    NamedTensors,
    apply_dialect,
    read_checkpoint,
)
from exporters.errors import UserError
from exporters.modelfile import WeightsSource
from exporters.pillarhist.config import (
    AnchorHead,
    Config,
    DynamicPillars,
    HardPillars,
    Histogram,
    Projection,
)
from exporters.pillarhist.options import SHIPPED, ExportOptions
from exporters.shipped import how_trained

if TYPE_CHECKING:
    from torch import Tensor

OPENPCDET = Dialect()

MMDETECTION3D = Dialect(
    renames={
        r"^voxel_encoder\.": "vfe.",
        r"^backbone\.blocks\.": "backbone_2d.blocks.",
        r"^neck\.deblocks\.": "backbone_2d.deblocks.",
        r"^bbox_head\.conv_reg\.": "dense_head.conv_box.",
        r"^bbox_head\.": "dense_head.",
    }
)

_MMDETECTION3D_CLASSES = ("Pedestrian", "Cyclist", "Car")

_OTHER_NETWORKS = {
    "pillar_encoder.conv.": (
        "is of zhulf0804/PointPillars, whose boxes have another yaw and order of sizes"
    ),
    "backbone_3d.": "has a 3-D backbone (SECOND, VoxelNet, PV-RCNN)",
    "pts_voxel_encoder.": "is MMDetection3D's CenterPoint",
    "reader.pfn_layers.": "is of tianweiy/CenterPoint",
    "img_backbone.": "is a camera network",
}


@dataclass(frozen=True)
class Source:
    """The network to export and where its weights come from; ``named`` None for random weights."""

    variant: str
    config: Config
    named: NamedTensors | None
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> WeightsSource:
        if self.named is None:
            return WeightsSource("random", seed=self.seed)
        file = self.named.source
        note = how_trained(file.path) if SHIPPED.holds(file.path) else None
        return WeightsSource("checkpoint", sha256=file.sha256, note=note)


def find_source(variant: str, options: ExportOptions) -> Source:
    """The network that ``variant``, the checkpoint and the options describe together.

    Raises:
        UserError: they contradict each other.
    """
    config = options.configure(variant)
    path = options.find_checkpoint(variant)
    if path is None:
        return Source(variant, config, None, options.seed)
    checkpoint = read_checkpoint(path)
    if any(".voxel_encoder.pfn_layers." in f".{name}" for name in checkpoint.tensors):
        return _from_mmdetection3d(variant, config, checkpoint)
    named = apply_dialect(checkpoint, OPENPCDET)
    _refuse_others(named)
    named = _with_step(named)
    config = _recognised(variant, config, options, named)
    return Source(variant, config, named, options.seed)


def _refuse_others(named: NamedTensors) -> None:
    for prefix, words in _OTHER_NETWORKS.items():
        if any(name.startswith(prefix) for name in named.tensors):
            raise UserError(
                f"checkpoint {named.source.path} {words}: it has {prefix}* keys",
                fix="Checkpoints of OpenPCDet and MMDetection3D's PointPillars are read",
            )


def _with_step(named: NamedTensors) -> NamedTensors:
    """Upstream's counter of training steps, where a file of weights alone lacks it."""
    import torch

    if "global_step" in named.tensors:
        return named
    return replace(
        named, tensors={"global_step": torch.zeros(1, dtype=torch.int64), **named.tensors}
    )


def _recognised(
    variant: str, config: Config, options: ExportOptions, named: NamedTensors
) -> Config:
    """The configuration with what the encoder's shapes tell; bins and projection, mainly.

    Raises:
        UserError: the encoder is another one than the variant's.
    """
    path = named.source.path
    weight = named.tensors.get("vfe.pfn_layers.0.linear.weight")
    if weight is None:
        raise UserError(
            f"checkpoint {path} is no pillar detector of OpenPCDet: it lacks "
            f"vfe.pfn_layers.0.linear.weight and has, for example, {next(iter(named.tensors))}",
            fix="Check the file, or name a variant of another family: edgeport models",
        )
    inputs = int(weight.shape[1])
    layers = "vfe.pfn_layers.1.linear.weight" in named.tensors
    encoder = config.encoder
    if isinstance(encoder, Histogram):
        bins = (inputs - 2) // 2
        if inputs % 2 or options.bins not in (None, bins):
            raise UserError(
                f"checkpoint {path} has an encoder of {inputs} inputs, "
                f"{options.bins or encoder.bins} height bins have "
                f"{2 * (options.bins or encoder.bins) + 2}",
                fix="Leave --bins out to have them counted, or name the variant with a PFN",
            )
        proj: Projection = (
            "linear" if "vfe.pfn_layers.0.linear.bias" in named.tensors else "linear_bn_relu"
        )
        return replace(config, encoder=replace(encoder, bins=bins, proj=proj))
    wanted = len(config.columns) + 6
    dynamic = isinstance(encoder, DynamicPillars)
    if inputs != wanted or layers != dynamic:
        raise UserError(
            f"checkpoint {path} is no {variant}: its encoder has {inputs} inputs and "
            f"{2 if layers else 1} layers, the variant {wanted} and {2 if dynamic else 1}",
            fix="Name the variant that it belongs to: edgeport models",
        )
    return config


def _from_mmdetection3d(variant: str, config: Config, checkpoint: Checkpoint) -> Source:
    if not (isinstance(config.encoder, HardPillars) and isinstance(config.head, AnchorHead)):
        raise UserError(
            f"checkpoint {checkpoint.path} is MMDetection3D's PointPillars, which is no {variant}",
            fix=f"Run: edgeport export pointpillars-kitti --checkpoint {checkpoint.path}",
        )
    named = apply_dialect(checkpoint, MMDETECTION3D)
    tensors = {_after_padding(name): value for name, value in named.tensors.items()}
    renamed = {_after_padding(name): old for name, old in named.renamed.items()}
    weight = tensors.get("vfe.pfn_layers.0.linear.weight")
    if weight is None or weight.shape[1] != 10:
        raise UserError(
            f"checkpoint {checkpoint.path}: its encoder is not that of PointPillars on KITTI "
            "(ten inputs)",
            fix="Checkpoints of hv_pointpillars_secfpn_*_kitti-3d-3class are read",
        )
    tensors["vfe.pfn_layers.0.linear.weight"] = _without_overwriting(weight)
    order = [config.classes.index(name) for name in _MMDETECTION3D_CLASSES]
    head = replace(
        config.head,
        anchors=tuple(config.head.anchors[i] for i in order),
        direction_offset=0.7854,
    )
    named = _with_step(replace(named, tensors=tensors, renamed=renamed))
    notes = (
        "read as MMDetection3D 1.0 or later; boxes of earlier versions have another yaw",
        "its encoder overwrites x, y, z by their distance from the pillar (legacy): rewritten",
    )
    config = replace(config, classes=_MMDETECTION3D_CLASSES, head=head)
    return Source(variant, config, named, 0, notes)


def _after_padding(name: str) -> str:
    """OpenPCDet's stages begin with a padding layer, which counts; MMDetection3D's do not."""
    parts = name.split(".")
    if parts[:2] == ["backbone_2d", "blocks"]:
        parts[3] = str(int(parts[3]) + 1)
    return ".".join(parts)


def _without_overwriting(weight: Tensor) -> Tensor:
    """``[64, 10]`` for input x, y, z, i, 3 from the mean, 3 from the centre, none overwritten."""
    import torch

    nothing = torch.zeros_like(weight[:, :3])
    return torch.cat([nothing, weight[:, 3:7], weight[:, 7:10] + weight[:, :3]], dim=1)
