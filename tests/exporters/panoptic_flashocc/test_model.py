"""Counts and shapes that upstream's configurations have, without any weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from exporters.flashocc.config import MINI as FLASHOCC_MINI
from exporters.flashocc.config import Config
from exporters.flashocc.model import FlashOcc
from exporters.panoptic_flashocc.config import CONFIGS, DEPTH, PanopticConfig
from exporters.panoptic_flashocc.model import PanopticFlashOcc

NARROW_DEPTH = dataclasses.replace(DEPTH, context=64, encoder=(128, 256, 512))


def without_weights(config: PanopticConfig) -> PanopticFlashOcc:
    with torch.device("meta"):
        return PanopticFlashOcc(config, nn.Identity())


# millions of parameters and keys of the state dict; a semantic network of 16 frames has no exact
# published count
COUNTS = {
    "tiny": (45.318, 532),
    "tiny-pano": (45.625, 586),
    "depth": (57.834, 532),
    "depth-pano": (58.215, 586),
    "4d": (75.259, 546),
    "4d-pano": (75.640, 600),
    "8f": (76.872, 546),
    "8f-pano": (77.253, 600),
    "16f-pano": (79.096, 600),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_keys_are_those_of_the_configurations(name: str) -> None:
    millions, keys = COUNTS[name]
    network = without_weights(CONFIGS[f"panoptic-flashocc-{name}"])
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == millions
    assert len(network.state_dict()) == keys


def test_the_published_depth_network_has_64_context_channels() -> None:
    count = sum(p.numel() for p in without_weights(NARROW_DEPTH).parameters())
    assert round(count / 1e6, 2) == 50.12


SHAPES = {
    "reduce_conv.0.weight": (256, 256, 3, 3),
    "context_conv.weight": (64, 256, 1, 1),
    "bn.running_mean": (27,),
    "depth_mlp.fc1.weight": (256, 27),
    "context_mlp.fc2.weight": (256, 256),
    "depth_se.conv_reduce.bias": (256,),
    "context_se.conv_expand.weight": (256, 256, 1, 1),
    "depth_conv.2.conv2.weight": (256, 256, 3, 3),
    "depth_conv.3.aspp1.atrous_conv.weight": (96, 256, 1, 1),
    "depth_conv.3.aspp4.bn.running_var": (96,),
    "depth_conv.3.global_avg_pool.1.weight": (96, 256, 1, 1),
    "depth_conv.3.global_avg_pool.2.weight": (96,),
    "depth_conv.3.conv1.weight": (256, 480, 1, 1),
    "depth_conv.3.bn1.bias": (256,),
    "depth_conv.4.bias": (44,),
}


def test_official_names_have_official_shapes() -> None:
    state = without_weights(CONFIGS["panoptic-flashocc-tiny-pano"]).state_dict()
    for name, shape in SHAPES.items():
        assert tuple(state[f"img_view_transformer.depth_net.{name}"].shape) == shape, name
    head = "aux_centerness_head"
    assert tuple(state[f"{head}.shared_conv.conv.weight"].shape) == (64, 128, 3, 3)
    for name, k in {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": 10}.items():
        assert tuple(state[f"{head}.task_heads.0.{name}.0.conv.weight"].shape) == (64, 64, 3, 3)
        assert tuple(state[f"{head}.task_heads.0.{name}.1.weight"].shape) == (k, 64, 3, 3)
        assert f"{head}.task_heads.0.{name}.0.bn.running_var" in state


def test_temporal_networks_see_their_frames_side_by_side() -> None:
    for name, frames in {"4d": 2, "8f": 9, "16f": 17}.items():
        state = without_weights(CONFIGS[f"panoptic-flashocc-{name}"]).state_dict()
        first = state["img_bev_encoder_backbone.layers.0.0.conv1.weight"]
        assert tuple(first.shape) == (160, 80 * frames, 3, 3)
        assert tuple(state["pre_process_net.layers.0.0.downsample.weight"].shape) == (80, 80, 3, 3)


def test_mini_is_flashocc_mini_with_a_centre_head() -> None:
    mini = CONFIGS["panoptic-flashocc-mini"]
    for item in dataclasses.fields(Config):
        assert getattr(mini, item.name) == getattr(FLASHOCC_MINI, item.name)
    with torch.device("meta"):
        plain = FlashOcc(FLASHOCC_MINI, nn.Identity())
    shared = {
        name: tuple(value.shape)
        for name, value in without_weights(mini).state_dict().items()
        if not name.startswith("aux_centerness_head.")
    }
    assert shared == {name: tuple(value.shape) for name, value in plain.state_dict().items()}
