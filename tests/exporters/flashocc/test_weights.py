from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporters.errors import UserError
from exporters.flashocc.config import M0, M1, NANO, Backbone, Config
from exporters.flashocc.exporter import build_network, make_geometry
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.random_weights import FREE_SHARE, generated_images
from exporters.flashocc.source import Source
from exporters.flashocc.weights import find_source

NARROW = Config(
    view=View(depth=(1.0, 45.0, 0.5)),
    backbone=Backbone(stem=4, blocks=(1, 2, 1, 1)),
    neck=8,
    context=6,
    encoder=(8, 10, 12),
    width=4,
)


def state_of(config: Config) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return FlashOcc(config, nn.Identity()).state_dict()


def saved(state: dict[str, Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state}, path)
    return path


def find(variant: str, path: Path, **options: object) -> Source[Config]:
    return find_source(variant, ExportOptions.parse({"checkpoint": path, **options}))


def refuse(variant: str, path: Path, *words: str, **options: object) -> None:
    with pytest.raises(UserError) as caught:
        find(variant, path, **options)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("config", "variant"),
    [(M0, "flashocc-m0"), (M1, "flashocc-m1"), (NARROW, "flashocc")],
    ids=["m0", "m1", "narrow"],
)
def test_networks_are_recognised_from_shapes(config: Config, variant: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = FlashOcc(config, nn.Identity()).state_dict()
    state = {name: torch.zeros(()).expand(value.shape) for name, value in shapes.items()}
    source = find("flashocc", saved(state, tmp_path))
    assert source.variant == variant
    assert source.config == config
    assert source.origin.kind == "checkpoint"


def test_options_survive_recognition(tmp_path: Path) -> None:
    config = dataclasses.replace(NARROW, view=View((64, 176), depth=(2.0, 58.0, 2.0)))
    path = saved(state_of(config), tmp_path)
    source = find("flashocc", path, depth="2:58:2", image_size="64x176")
    assert source.config == config
    assert source.config.view.depth_values[-1] == 56


def test_weights_reach_the_network(tmp_path: Path) -> None:
    options = ExportOptions(checkpoint=saved(state_of(NANO), tmp_path))
    source = find_source("flashocc-nano", options)
    network, report = build_network(source, make_geometry(source.config, options))
    assert report is not None
    assert len(report.loaded) == 214
    for name, value in network.state_dict().items():
        assert torch.equal(value, state_of(NANO)[name]), name


def test_another_variants_checkpoint_is_named(tmp_path: Path) -> None:
    path = saved(state_of(NARROW), tmp_path)
    refuse(
        "flashocc-m0",
        path,
        "is no flashocc-m0: it has 88 depth bins instead of 44",
        "4 BEV channels instead of 128",
        f"edgeport export flashocc --checkpoint {path}",
    )


OTHERS = {
    "img_view_transformer.depth_net.reduce_conv.0.weight": "BEVDepth or Panoptic-FlashOcc",
    "img_view_transformer.depth_net.cost_volumn_net.0.weight": "stereo network",
    "pre_process_net.layers.0.0.conv1.weight": "temporal network",
    "img_backbone.patch_embed.projection.weight": "Swin",
}


@pytest.mark.parametrize("key", sorted(OTHERS))
def test_networks_of_later_versions_are_named(key: str, tmp_path: Path) -> None:
    path = saved({**state_of(NARROW), key: torch.ones(1)}, tmp_path)
    refuse("flashocc", path, OTHERS[key], "edgeport models")


def test_a_bare_backbone_is_named(tmp_path: Path) -> None:
    prefix = "img_backbone."
    state = {n.removeprefix(prefix): v for n, v in state_of(NARROW).items() if n.startswith(prefix)}
    refuse("flashocc", saved(state, tmp_path), "bare ResNet", "whole network")


def test_a_foreign_network_is_named(tmp_path: Path) -> None:
    path = saved({"encoder.weight": torch.ones(2)}, tmp_path)
    refuse(
        "flashocc",
        path,
        "is not a FlashOcc network",
        "lacks img_bev_encoder_backbone.layers.0.0.conv1.weight",
        "encoder.weight",
    )


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    state = state_of(NANO)
    del state["img_bev_encoder_neck.up2.4.bias"]
    options = ExportOptions(checkpoint=saved(state, tmp_path))
    source = find_source("flashocc-nano", options)
    with pytest.raises(UserError, match=r"lacks 1 keys \(img_bev_encoder_neck\.up2\.4\.bias\)"):
        build_network(source, make_geometry(source.config, options))


def test_detector_pretraining_and_old_names_are_mapped(tmp_path: Path) -> None:
    state = state_of(NANO)
    for part in ("weight", "bias"):
        new = f"img_view_transformer.depth_net.{part}"
        state[new.replace("depth_net", "depthnet")] = state.pop(new)
    state["pts_bbox_head.shared_conv.conv.weight"] = torch.ones(1)
    state["img_view_transformer.frustum"] = torch.ones(2, 4, 4, 3)
    options = ExportOptions(checkpoint=saved(state, tmp_path))
    source = find_source("flashocc-nano", options)
    _, report = build_network(source, make_geometry(source.config, options))
    assert report is not None
    assert report.renamed["img_view_transformer.depth_net.bias"].endswith("depthnet.bias")
    assert "detection head" in report.dropped["pts_bbox_head.shared_conv.conv.weight"]
    assert "geometry comes from the rig" in report.dropped["img_view_transformer.frustum"]


def test_a_centre_head_is_left_out(tmp_path: Path) -> None:
    state = {**state_of(NARROW), "aux_centerness_head.shared_conv.conv.weight": torch.ones(1)}
    named = find("flashocc", saved(state, tmp_path)).named
    assert named is not None
    assert list(named.dropped.values()) == ["centre head: this network has no instances"]


def test_unknown_depth_range_is_asked_for(tmp_path: Path) -> None:
    config = dataclasses.replace(NARROW, view=View(depth=(1.0, 31.0, 1.0)))
    path = saved(state_of(config), tmp_path)
    refuse("flashocc", path, "has 30 depth bins", "--depth LOW:HIGH:STEP")
    assert find("flashocc", path, depth="1:31:1").config.view.depth_bins == 30


def test_other_classes_are_asked_for(tmp_path: Path) -> None:
    classes = ("road", "kerb", "free")
    config = dataclasses.replace(NARROW, classes=classes)
    path = saved(state_of(config), tmp_path)
    refuse(
        "flashocc",
        path,
        "predicts 48 values a column, but 16 height slices times 18 classes are 288",
        "--classes FILE",
    )
    names = tmp_path / "names.txt"
    names.write_text("road\nkerb\n\nfree\n")
    assert find("flashocc", path, classes=names).config.classes == classes


def test_recognition_needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match="recognised from a checkpoint"):
        find_source("flashocc", ExportOptions())


# random weights


def random_network(seed: int) -> FlashOcc:
    options = ExportOptions(seed=seed)
    network, report = build_network(
        find_source("flashocc-nano", options), make_geometry(NANO, options)
    )
    assert report is None
    return network


def test_a_seed_is_a_network(mini: FlashOcc) -> None:
    same, other = random_network(0).state_dict(), random_network(1).state_dict()
    for name, value in mini.state_dict().items():
        assert torch.equal(value, same[name]), name
    assert not torch.equal(same["img_backbone.conv1.weight"], other["img_backbone.conv1.weight"])


def test_activations_keep_their_scale(mini: FlashOcc) -> None:
    spreads = {}

    def keep(name: str) -> None:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            spreads[name] = float(output.std())

        handles.append(mini.get_submodule(name).register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in ("img_backbone.layer4", "img_neck", "img_bev_encoder_neck", "occ_head"):
        keep(name)
    images = torch.from_numpy(generated_images(6, NANO.view.image_size, 11))
    with torch.no_grad():
        mini(CameraInput()(images))
    for handle in handles:
        handle.remove()
    for name, spread in spreads.items():
        assert 0.1 < spread < 10, (name, spread)


def test_labels_vary_and_most_are_free(mini: FlashOcc) -> None:
    images = torch.from_numpy(generated_images(6, NANO.view.image_size, 11))
    with torch.no_grad():
        labels = mini(CameraInput()(images)).argmax(-1).numpy()
    share = np.bincount(labels.ravel(), minlength=18) / labels.size
    assert abs(share[NANO.free_class] - FREE_SHARE) < 0.15
    assert np.count_nonzero(share) == 18
    assert all(len(np.unique(labels[:, :, z])) > 5 for z in range(labels.shape[2]))


def test_generated_images_resemble_photographs() -> None:
    images = generated_images(2, (64, 96), 0)
    assert images.dtype == np.uint8
    assert images.shape == (2, 64, 96, 3)
    assert 80 < images.mean() < 150
    assert images.std() > 30
    power = np.abs(np.fft.rfft(images[..., 0].astype(float), axis=2)).mean((0, 1))[1:]
    assert power[:4].mean() > 10 * power[-16:].mean()  # photographs: power falls with frequency
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images, generated_images(2, (64, 96), 0))


def test_custom_grids_and_classes_are_drawn_too() -> None:
    grid = Grid(x=(-8.0, 8.0, 1.0), y=(-4.0, 4.0, 1.0), z_out=(-1.0, 5.4, 3.2))
    options = ExportOptions(grid=grid, classes=("free", "wall", "floor"), cameras=4)
    source = find_source("flashocc-nano", options)
    network, _ = build_network(source, make_geometry(source.config, options))
    images = torch.from_numpy(generated_images(4, source.config.view.image_size, 1))
    with torch.no_grad():
        logits = network(CameraInput()(images))
    assert logits.shape == (16, 8, 2, 3)
    assert len(torch.unique(logits.argmax(-1))) > 1
