"""Checkpoints of pillar detectors: OpenPCDet's as they are, two others brought to its form.

What the others call and compute differently stands in `exporters.pillarhist.dialects`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporters.checkpoints import Dialect, NamedTensors, apply_dialect, read_checkpoint
from exporters.errors import UserError
from exporters.modelfile import WeightsSource
from exporters.pillarhist.config import Config, DynamicPillars, Histogram, Projection
from exporters.pillarhist.dialects import from_elsewhere
from exporters.pillarhist.options import SHIPPED, ExportOptions
from exporters.shipped import how_trained

OPENPCDET = Dialect()

_OTHER_NETWORKS = {
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
    foreign = from_elsewhere(variant, config, checkpoint)
    if foreign is not None:
        named = _with_step(foreign.named)
        return Source(variant, foreign.config, named, options.seed, foreign.notes)
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
                fix="Checkpoints of OpenPCDet are read, and MMDetection3D's and zhulf0804's "
                "PointPillars",
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
