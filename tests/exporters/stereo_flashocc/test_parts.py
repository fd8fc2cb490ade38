"""Counts of the published networks, and their two unusual parts against definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from exporters.flashocc.geometry import View
from exporters.stereo_flashocc.config import M2, M3, StereoConfig, Swin
from exporters.stereo_flashocc.cost_volume import CostVolume
from exporters.stereo_flashocc.model import StereoFlashOcc
from exporters.stereo_flashocc.stereo_motion import stereo_motion
from exporters.stereo_flashocc.swin import (
    PatchMerging,
    ShiftWindowMSA,
    SwinTransformer,
    relative_positions,
)
from tests.exporters.panoptic_flashocc.test_streams import rig_at
from tests.exporters.stereo_flashocc import oracle


def without_weights(config: StereoConfig) -> StereoFlashOcc:
    with torch.device("meta"):
        return StereoFlashOcc(config, nn.Identity())


@pytest.mark.parametrize(("config", "millions"), [(M2, 58.668), (M3, 144.989)], ids=["m2", "m3"])
def test_parameters_are_the_published_ones(config: StereoConfig, millions: float) -> None:
    network = without_weights(config)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == millions


def test_keys_are_those_of_the_configuration() -> None:
    state = without_weights(M2).state_dict()
    assert len(state) == 562
    depth_net = "img_view_transformer.depth_net"
    assert tuple(state[f"{depth_net}.cost_volumn_net.2.weight"].shape) == (88, 88, 3, 3)
    assert tuple(state[f"{depth_net}.depth_conv.0.downsample.weight"].shape) == (256, 344, 1, 1)
    assert tuple(state[f"{depth_net}.depth_conv.0.conv1.weight"].shape) == (256, 344, 3, 3)


def test_swin_has_mmdetections_names() -> None:
    state = without_weights(M3).img_backbone.state_dict()
    block = "stages.2.blocks.17"
    shapes = {
        "patch_embed.projection.weight": (128, 3, 4, 4),
        "patch_embed.norm.bias": (128,),
        f"{block}.norm1.weight": (512,),
        f"{block}.attn.w_msa.relative_position_bias_table": (529, 16),
        f"{block}.attn.w_msa.relative_position_index": (144, 144),
        f"{block}.attn.w_msa.qkv.weight": (1536, 512),
        f"{block}.attn.w_msa.proj.bias": (512,),
        f"{block}.ffn.layers.0.0.weight": (2048, 512),
        f"{block}.ffn.layers.1.weight": (512, 2048),
        "stages.2.downsample.norm.weight": (2048,),
        "stages.2.downsample.reduction.weight": (1024, 2048),
        "norm2.weight": (512,),
        "norm3.weight": (1024,),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape, name
    assert not any(name.startswith("stages.3.downsample") for name in state)


def test_depth_bins_grow_by_a_factor() -> None:
    values = M2.view.depth_values
    assert len(values) == 88
    np.testing.assert_allclose(values[[0, 1, -1]], [1.0, 1.0445, 44.0], atol=1e-4)
    np.testing.assert_allclose(values[1:] / values[:-1], values[1] / values[0], rtol=1e-5)
    assert View.from_json(M2.view.to_json()) == M2.view


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_cost_volume_equals_its_definition(spacing: str) -> None:
    view = View(image_size=(32, 64), depth=(1.0, 25.0, 4.0), spacing=spacing)
    now, before = rig_at(4), rig_at(3)
    torch.manual_seed(0)
    seen = torch.randn(2, 6, 5, 8, 16)
    motion = stereo_motion(now, before, view)
    found = CostVolume(view)(seen[0], seen[1], torch.from_numpy(motion))
    cameras = list(zip(now.cameras, before.cameras, strict=True))
    expected = oracle.cost_volume(seen[0].double().numpy(), seen[1].double().numpy(), cameras, view)
    # coordinates in float32 are right to 1e-5 pixels, features vary by about 3 a pixel
    close = np.abs(found.numpy() - expected) < 1e-3
    assert close.mean() > 0.999  # a point on the picture's border falls on either side of it
    assert np.abs(expected - 1 / 6).max() > 0.3


def test_a_camera_that_stands_sees_no_difference() -> None:
    view = View(image_size=(32, 64), depth=(1.0, 25.0, 4.0))
    seen = torch.rand(6, 5, 8, 16) + 0.1
    motion = torch.from_numpy(stereo_motion(rig_at(0), rig_at(0), view))
    found = CostVolume(view)(seen, seen, motion)
    inner = found[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 1 / 6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(8, 12), (6, 10)], ids=["whole windows", "padded"])
@pytest.mark.parametrize("shift", [0, 2])
def test_attention_equals_its_definition(size: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    layer = ShiftWindowMSA(8, 2, 4, size, shift).double().eval()
    with torch.no_grad():
        nn.init.normal_(layer.w_msa.relative_position_bias_table)
        x = torch.randn(1, *size, 8, dtype=torch.float64)
        found = layer(x)[0].numpy()
    state = {name: value.numpy() for name, value in layer.w_msa.state_dict().items()}
    # blocked tokens weigh exp(-100) in the network and nothing in the definition
    np.testing.assert_allclose(found, oracle.attention(x[0].numpy(), state, 4, shift, 2), atol=1e-9)


def test_positions_are_those_of_the_checkpoint() -> None:
    index = relative_positions(12).numpy()
    for p, q in ((0, 0), (0, 143), (143, 0), (17, 100)):
        rows, columns = p // 12 - q // 12 + 11, p % 12 - q % 12 + 11
        assert index[p, q] == rows * 23 + columns


def test_patches_are_merged_as_unfold_does() -> None:
    torch.manual_seed(0)
    layer, x = PatchMerging(3), torch.randn(2, 4, 6, 3)
    patches = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    expected = layer.reduction(layer.norm(patches)).reshape(2, 2, 3, 6)
    torch.testing.assert_close(layer(x), expected)


def test_swin_has_three_outputs() -> None:
    config = Swin(width=8, blocks=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4)
    stereo, fine, coarse = SwinTransformer(config, (64, 96))(torch.randn(2, 3, 64, 96))
    assert stereo.shape == (2, 8, 16, 24)
    assert fine.shape == (2, 32, 4, 6)
    assert coarse.shape == (2, 64, 2, 3)
    assert dataclasses.replace(M3, swin=config).image_widths == (8, 32, 64)
