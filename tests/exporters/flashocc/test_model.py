from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporters.flashocc.config import M0, M1, NANO, Config
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.inference import CameraInput, InferenceModel
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.random_weights import generated_images
from tests.exporters.flashocc import oracle

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def without_weights(config: Config) -> FlashOcc:
    with torch.device("meta"):
        return FlashOcc(config, nn.Identity())


def torchvision_resnet50_names() -> set[str]:
    """The 318 names of torchvision's ResNet-50 without its classifier."""
    names = {"conv1.weight", *(f"bn1.{item}" for item in NORM)}
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            for index in (1, 2, 3):
                names.add(f"{prefix}.conv{index}.weight")
                names |= {f"{prefix}.bn{index}.{item}" for item in NORM}
            if block == 0:
                names.add(f"{prefix}.downsample.0.weight")
                names |= {f"{prefix}.downsample.1.{item}" for item in NORM}
    return names


@pytest.mark.parametrize(("config", "millions"), [(M0, 39.94), (M1, 44.74)], ids=["m0", "m1"])
def test_parameters_and_keys_are_the_published_ones(config: Config, millions: float) -> None:
    network = without_weights(config)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions
    assert len(network.state_dict()) == 430


def test_backbone_has_torchvisions_names() -> None:
    assert len(torchvision_resnet50_names()) == 318
    assert set(without_weights(M0).img_backbone.state_dict()) == torchvision_resnet50_names()


# name: shape in M0, shape in M1 where it differs
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "img_backbone.conv1.weight": ((64, 3, 7, 7),) * 2,
    "img_neck.lateral_convs.0.conv.weight": ((256, 1024, 1, 1),) * 2,
    "img_neck.lateral_convs.1.conv.weight": ((256, 2048, 1, 1),) * 2,
    "img_neck.fpn_convs.0.conv.bias": ((256,),) * 2,
    "img_view_transformer.depth_net.weight": ((108, 256, 1, 1), (152, 256, 1, 1)),
    "img_view_transformer.depth_net.bias": ((108,), (152,)),
    "img_bev_encoder_backbone.layers.0.0.conv1.weight": ((128, 64, 3, 3),) * 2,
    "img_bev_encoder_backbone.layers.0.0.downsample.weight": ((128, 64, 3, 3),) * 2,
    "img_bev_encoder_backbone.layers.2.0.downsample.bias": ((512,),) * 2,
    "img_bev_encoder_backbone.layers.2.1.conv2.weight": ((512, 512, 3, 3),) * 2,
    "img_bev_encoder_neck.conv.0.weight": ((256, 640, 3, 3), (512, 640, 3, 3)),
    "img_bev_encoder_neck.conv.3.weight": ((256, 256, 3, 3), (512, 512, 3, 3)),
    "img_bev_encoder_neck.up2.1.weight": ((128, 256, 3, 3), (256, 512, 3, 3)),
    "img_bev_encoder_neck.up2.4.bias": ((128,), (256,)),
    "occ_head.final_conv.conv.weight": ((128, 128, 3, 3), (256, 256, 3, 3)),
    "occ_head.predicter.0.weight": ((256, 128), (512, 256)),
    "occ_head.predicter.2.weight": ((288, 256), (288, 512)),
}


@pytest.mark.parametrize("index", [0, 1], ids=["m0", "m1"])
def test_official_names_have_official_shapes(index: int) -> None:
    state = without_weights((M0, M1)[index]).state_dict()
    for name, shapes in SHAPES.items():
        assert tuple(state[name].shape) == shapes[index], name


def test_network_equals_an_independent_computation(mini: FlashOcc) -> None:
    images = CameraInput()(torch.from_numpy(generated_images(6, (64, 176), 3))).numpy()
    expected = oracle.logits(mini.state_dict(), NANO, nuscenes_like_rig(), images)
    with torch.no_grad():
        found = mini(torch.from_numpy(images)).numpy()
    # float32 through some forty layers: a hundred times its rounding
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.std() * 10, rtol=0)


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_the_exported_form_computes_the_same(mini: FlashOcc, kind: str) -> None:
    raw = torch.from_numpy(generated_images(6, (64, 176), 4))
    planes = CameraInput()(raw)
    with torch.no_grad():
        expected = mini(planes)
        feed = raw if kind == "uint8" else planes
        logits = InferenceModel(mini, inputs=kind, logits=True).eval()(feed)  # type: ignore[arg-type]
        labels = InferenceModel(mini, inputs=kind).eval()(feed)  # type: ignore[arg-type]
    assert logits.shape == (40, 40, 4, 18)
    torch.testing.assert_close(logits, expected, atol=1e-4 * float(expected.std()), rtol=0)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), logits.argmax(-1))


def test_making_the_exported_form_leaves_the_network_alone(mini: FlashOcc) -> None:
    before = {name: value.clone() for name, value in mini.state_dict().items()}
    model = InferenceModel(mini)
    assert not any(isinstance(module, nn.BatchNorm2d | nn.Linear) for module in model.modules())
    after = mini.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
