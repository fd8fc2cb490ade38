"""Which FlashOcc a checkpoint is, read from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporters.checkpoints import (
    Checkpoint,
    Dialect,
    NamedTensors,
    apply_dialect,
    read_checkpoint,
)
from exporters.errors import UserError
from exporters.flashocc.config import CONFIGS, Backbone, Config
from exporters.flashocc.geometry import Range
from exporters.flashocc.options import ANY_VARIANT, ExportOptions, base_config
from exporters.flashocc.source import Source

COMMON = Dialect(
    renames={r"^img_view_transformer\.depthnet\.": "img_view_transformer.depth_net."},
    drops={
        r"pts_bbox_head\.": "detection head of the BEVDet that training started from",
        r"ema_": "buffers of mmcv's EMA hook, whose averages are the plain keys already",
        r"img_view_transformer\.(frustum|dx|bx|nx|initial_flag)$": "geometry comes from the rig",
        r"(img_backbone\.)?fc\.": "ImageNet classifier",
    },
)

DIALECT = Dialect(
    COMMON.renames,
    {**COMMON.drops, r"aux_centerness_head\.": "centre head: this network has no instances"},
)
"""Without its centre head a Panoptic-FlashOcc may be a FlashOcc: the miniatures are."""

_DEPTH_BY_BINS: Mapping[int, Range] = {44: (1.0, 45.0, 1.0), 88: (1.0, 45.0, 0.5)}
"""Ranges of the published networks; others do not follow from a tensor shape."""

_OTHER_NETWORKS = {
    "img_view_transformer.depth_net.cost_volumn_net.": "a stereo network (M2, M3)",
    "img_view_transformer.depth_net.reduce_conv.": "a BEVDepth or Panoptic-FlashOcc network",
    "pre_process_net.": "a temporal network (depth4d, 8f, 16f)",
    "img_backbone.patch_embed.": "a network with a Swin backbone (M3)",
}


def name_tensors(
    checkpoint: Checkpoint,
    dialect: Dialect = DIALECT,
    others: Mapping[str, str] = _OTHER_NETWORKS,
) -> NamedTensors:
    """The checkpoint under official names.

    Args:
        others: key prefix to the kind of network that has it and that is not meant here.

    Raises:
        UserError: it belongs to another network.
    """
    named = apply_dialect(checkpoint, dialect)
    for prefix, kind in others.items():
        if any(name.startswith(prefix) for name in named.tensors):
            raise UserError(
                f"{checkpoint.path} is {kind}: it has {prefix}* keys",
                fix="Name a variant of that network: edgeport models",
            )
    if "layer1.0.conv1.weight" in named.tensors:
        raise UserError(
            f"{checkpoint.path} is a bare ResNet: it has layer1.* keys and no occ_head.*",
            fix="Give the checkpoint of the whole network",
        )
    return named


def recognise(named: NamedTensors, base: Config) -> Config:
    """The network that the tensors belong to.

    Args:
        base: image size, grid, class names and, where the bins agree, depth range.

    Raises:
        UserError: a key that shows the architecture is missing, or grid, classes or depth of
            ``base`` do not fit.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in named.tensors.items()}
    path = named.source.path

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise UserError(
                f"checkpoint {path} is not a FlashOcc network: it lacks {name} "
                f"and has, for example, {next(iter(shapes), 'no key')}",
                fix="Names of the official checkpoints are expected: docs/your-own-checkpoint.md",
            )
        return shapes[name]

    context = shape("img_bev_encoder_backbone.layers.0.0.conv1.weight")[1]
    bins = shape("img_view_transformer.depth_net.weight")[0] - context
    stages = [
        shape(f"img_bev_encoder_backbone.layers.{stage}.0.conv1.weight")[0] for stage in range(3)
    ]
    config = replace(
        base,
        view=replace(base.view, depth=depth_range(bins, base, path)),
        backbone=Backbone(shape("img_backbone.conv1.weight")[0], count_blocks(shapes)),
        neck=shape("img_neck.lateral_convs.0.conv.weight")[0],
        context=context,
        encoder=(stages[0], stages[1], stages[2]),
        width=shape("occ_head.predicter.0.weight")[1],
    )
    check_head(shape("occ_head.predicter.2.weight")[0], config, path)
    return config


def depth_range(bins: int, base: Config, path: object) -> Range:
    if bins == base.view.depth_bins:
        return base.view.depth
    if bins in _DEPTH_BY_BINS:
        return _DEPTH_BY_BINS[bins]
    raise UserError(
        f"checkpoint {path} has {bins} depth bins and none of the known ranges has that many",
        fix="Give the range it was trained with: --depth LOW:HIGH:STEP",
    )


def count_blocks(shapes: Mapping[str, object]) -> tuple[int, ...]:
    """Bottlenecks in each stage of the backbone."""
    counts: list[int] = []
    while f"img_backbone.layer{len(counts) + 1}.0.conv1.weight" in shapes:
        prefix = f"img_backbone.layer{len(counts) + 1}."
        counts.append(sum(n.startswith(prefix) and n.endswith(".conv1.weight") for n in shapes))
    return tuple(counts)


def check_head(channels: int, config: Config, path: object) -> None:
    if channels == config.head_channels:
        return
    heights, classes = config.grid.nz_out, len(config.classes)
    raise UserError(
        f"checkpoint {path} predicts {channels} values a column, "
        f"but {heights} height slices times {classes} classes are {heights * classes}",
        fix="Give the class names with --classes FILE and the grid with --grid",
    )


def find_source(variant: str, options: ExportOptions) -> Source[Config]:
    """The network that ``variant``, the checkpoint and the options describe together.

    Raises:
        UserError: they contradict each other.
    """
    base = options.configure(base_config(variant))
    path = options.find_checkpoint(variant)
    if path is None:
        if variant == ANY_VARIANT:
            raise UserError(
                f"variant {variant!r} is recognised from a checkpoint and none was given",
                fix="Pass --checkpoint FILE, or name a variant: edgeport models",
            )
        return Source(variant, base, None, options.seed)
    named = name_tensors(read_checkpoint(path))
    config = recognise(named, base)
    found = _variant_of(config)
    if variant not in (ANY_VARIANT, found):
        raise UserError(
            f"checkpoint {path} is no {variant}: it has {_differences(config, base)}",
            fix=f"Run: edgeport export {found} --checkpoint {path}",
        )
    return Source(found, config, named, options.seed)


def _variant_of(config: Config) -> str:
    """The variant with these widths and depth bins, whatever grid, classes and image size."""
    for name, known in CONFIGS.items():
        if _widths(known) == _widths(config):
            return name
    return ANY_VARIANT


def _widths(config: Config) -> dict[str, object]:
    return {
        "depth bins": config.view.depth_bins,
        "backbone": (config.backbone.stem, *config.backbone.blocks),
        "neck channels": config.neck,
        "context channels": config.context,
        "encoder channels": config.encoder,
        "BEV channels": config.width,
    }


def _differences(config: Config, base: Config) -> str:
    expected = _widths(base)
    return ", ".join(
        f"{value} {name} instead of {expected[name]}"
        for name, value in _widths(config).items()
        if value != expected[name]
    )
