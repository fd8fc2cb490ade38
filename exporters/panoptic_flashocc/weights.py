"""Which Panoptic-FlashOcc a checkpoint is, read from the names and shapes of its tensors.

The published sizes of the two ``depth`` networks belong to 64 context channels, the released
configuration has 80: whichever a file holds is what its shapes say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from exporters.checkpoints import NamedTensors, read_checkpoint
from exporters.errors import UserError
from exporters.flashocc.config import Backbone
from exporters.flashocc.source import Source
from exporters.flashocc.weights import (
    COMMON,
    DIALECT,
    check_head,
    count_blocks,
    depth_range,
    name_tensors,
)
from exporters.panoptic_flashocc.config import CONFIGS, DEPTH, PanopticConfig
from exporters.panoptic_flashocc.options import ANY_VARIANT, PanopticOptions, base_config

_OTHER_NETWORKS = {
    "img_view_transformer.depth_net.cost_volumn_net.": "a stereo network (M2, M3)",
    "img_backbone.patch_embed.": "a network with a Swin backbone (M3)",
}
_HEAD = "aux_centerness_head."


def find_source(variant: str, options: PanopticOptions) -> Source[PanopticConfig]:
    """The network that ``variant``, the checkpoint and the options describe together.

    Raises:
        UserError: they contradict each other.
    """
    base = options.panoptic(base_config(variant))
    path = options.find_checkpoint(variant)
    if path is None:
        if variant == ANY_VARIANT:
            raise UserError(
                f"variant {variant!r} is recognised from a checkpoint and none was given",
                fix="Pass --checkpoint FILE, or name a variant: edgeport models",
            )
        return Source(variant, base, None, options.seed)
    checkpoint = read_checkpoint(path)
    keeps_head = variant == ANY_VARIANT or base.centres
    dialect = COMMON if keeps_head else DIALECT
    named = name_tensors(checkpoint, dialect, _OTHER_NETWORKS)
    config = recognise(named, base)
    found = _variant_of(config)
    if variant not in (ANY_VARIANT, found):
        raise UserError(
            f"checkpoint {path} is no {variant}: it has {_differences(config, base)}",
            fix=f"Run: edgeport export {found} --checkpoint {path}",
        )
    if variant == ANY_VARIANT and found != ANY_VARIANT:
        config = replace(config, score_threshold=CONFIGS[found].score_threshold)
    return Source(found, config, named, options.seed)


def recognise(named: NamedTensors, base: PanopticConfig) -> PanopticConfig:
    """The network that the tensors belong to.

    Args:
        base: image size, grid, class names, score threshold and, where the bins agree, depth range.

    Raises:
        UserError: a key that shows the architecture is missing, or grid, classes or depth of
            ``base`` do not fit.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in named.tensors.items()}
    path = named.source.path

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise UserError(
                f"checkpoint {path} is not a Panoptic-FlashOcc network: it lacks {name} "
                f"and has, for example, {next(iter(shapes), 'no key')}",
                fix="Names of the official checkpoints are expected: docs/your-own-checkpoint.md",
            )
        return shapes[name]

    fused = shape("img_bev_encoder_backbone.layers.0.0.conv1.weight")[1]
    stages = [
        shape(f"img_bev_encoder_backbone.layers.{stage}.0.conv1.weight")[0] for stage in range(3)
    ]
    context, bins, camera_aware = _depth_net(shapes, shape, fused)
    head = f"{_HEAD}shared_conv.conv.weight"
    config = replace(
        base,
        view=replace(base.view, depth=depth_range(bins, base, path)),
        backbone=Backbone(shape("img_backbone.conv1.weight")[0], count_blocks(shapes)),
        neck=shape("img_neck.lateral_convs.0.conv.weight")[0],
        context=context,
        encoder=(stages[0], stages[1], stages[2]),
        width=shape("occ_head.predicter.0.weight")[1],
        camera_aware=camera_aware,
        history=fused // context - 1,
        centres=head in shapes,
        centre_width=shapes[head][0] if head in shapes else base.centre_width,
    )
    check_head(shape("occ_head.predicter.2.weight")[0], config, path)
    return config


def _depth_net(
    shapes: Mapping[str, tuple[int, ...]], shape: Callable[[str], tuple[int, ...]], fused: int
) -> tuple[int, int, bool]:
    """Context channels, depth bins, and whether there is a DepthNet."""
    prefix = "img_view_transformer.depth_net"
    if f"{prefix}.reduce_conv.0.weight" in shapes:
        return (
            shape(f"{prefix}.context_conv.weight")[0],
            shape(f"{prefix}.depth_conv.4.weight")[0],
            True,
        )
    return fused, shape(f"{prefix}.weight")[0] - fused, False


def _variant_of(config: PanopticConfig) -> str:
    """The variant with these widths and depth bins, whatever grid, classes and image size."""
    for name, known in CONFIGS.items():
        if _widths(known) == _widths(config):
            return name
    narrow = replace(DEPTH, context=64, encoder=(128, 256, 512))
    for centres, suffix in ((False, ""), (True, "-pano")):
        if _widths(replace(narrow, centres=centres)) == _widths(config):
            return f"panoptic-flashocc-depth{suffix}"
    return ANY_VARIANT


def _widths(config: PanopticConfig) -> dict[str, object]:
    return {
        "depth bins": config.view.depth_bins,
        "backbone": (config.backbone.stem, *config.backbone.blocks),
        "neck channels": config.neck,
        "context channels": config.context,
        "encoder channels": config.encoder,
        "BEV channels": config.width,
        "DepthNet": config.camera_aware,
        "past frames": config.history,
        "centre head": config.centre_width if config.centres else None,
    }


def _differences(config: PanopticConfig, base: PanopticConfig) -> str:
    expected = _widths(base)
    return ", ".join(
        f"{name} {value} instead of {expected[name]}"
        for name, value in _widths(config).items()
        if value != expected[name]
    )
