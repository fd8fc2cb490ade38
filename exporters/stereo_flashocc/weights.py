"""Which stereo FlashOcc a checkpoint is, read from the names and shapes of its tensors.

Whether depth bins are spaced evenly or by a factor does not show in a shape: the variant says it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from exporters.checkpoints import NamedTensors, read_checkpoint
from exporters.errors import UserError, did_you_mean
from exporters.flashocc.config import Backbone
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.source import Source
from exporters.flashocc.weights import DIALECT, check_head, count_blocks, depth_range, name_tensors
from exporters.stereo_flashocc.config import CONFIGS, StereoConfig

_STEREO = "img_view_transformer.depth_net.cost_volumn_net.0.weight"


def find_source(variant: str, options: ExportOptions) -> Source[StereoConfig]:
    """The network that ``variant``, the checkpoint and the options describe together.

    Raises:
        UserError: unknown variant, or they contradict each other.
    """
    if variant not in CONFIGS:
        raise UserError(f"unknown variant {variant!r}", fix=did_you_mean(variant, CONFIGS))
    base = cast("StereoConfig", options.configure(CONFIGS[variant]))
    if options.checkpoint is None:
        return Source(variant, base, None, options.seed)
    named = name_tensors(read_checkpoint(options.checkpoint), DIALECT, {})
    return Source(variant, recognise(named, base), named, options.seed)


def recognise(named: NamedTensors, base: StereoConfig) -> StereoConfig:
    """``base`` with the widths of the checkpoint; a Swin's own are those of ``base``.

    Raises:
        UserError: it is no stereo network, has the other backbone, or grid, classes or depth of
            ``base`` do not fit.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in named.tensors.items()}
    path = named.source.path
    if _STEREO not in shapes:
        raise UserError(
            f"checkpoint {path} is no stereo network: it lacks {_STEREO}",
            fix="Name a variant of the network that it is: edgeport models",
        )
    if ("img_backbone.patch_embed.projection.weight" in shapes) != (base.swin is not None):
        other = "flashocc-m2" if base.swin else "flashocc-m3"
        raise UserError(
            f"checkpoint {path} has the backbone of the other stereo network",
            fix=f"Run: edgeport export {other} --checkpoint {path}",
        )
    encoder = [
        shapes[f"img_bev_encoder_backbone.layers.{stage}.0.conv1.weight"][0] for stage in range(3)
    ]
    depth_net = "img_view_transformer.depth_net"
    config = replace(
        base,
        view=replace(
            base.view, depth=depth_range(shapes[f"{depth_net}.depth_conv.4.weight"][0], base, path)
        ),
        neck=shapes[f"{depth_net}.reduce_conv.0.weight"][0],
        context=shapes[f"{depth_net}.context_conv.weight"][0],
        encoder=(encoder[0], encoder[1], encoder[2]),
        width=shapes["occ_head.predicter.0.weight"][1],
    )
    if base.swin is None:
        blocks = Backbone(shapes["img_backbone.conv1.weight"][0], count_blocks(shapes))
        config = replace(config, backbone=blocks)
    check_head(shapes["occ_head.predicter.2.weight"][0], config, path)
    return config
