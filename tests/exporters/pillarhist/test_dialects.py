"""MMDetection3D's and zhulf0804's checkpoints against what upstream computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporters.errors import UserError
from exporters.pillarhist import host
from exporters.pillarhist.config import KITTI, AnchorHead
from exporters.pillarhist.decoding import AnchorBoxes
from exporters.pillarhist.encoders import HardPFN, decorated, make_encoder, pillar_centres
from exporters.pillarhist.exporter import build_network
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.weights import find_source
from tests.exporters.pillarhist import clouds

MMDETECTION3D = {
    "vfe": "voxel_encoder", "blocks": "backbone.blocks", "deblocks": "neck.deblocks",
    "dense_head": "bbox_head", "conv_box": "conv_reg",
}  # fmt: skip
ZHULF0804 = {
    "vfe.pfn_layers.0.linear": "pillar_encoder.conv", "vfe.pfn_layers.0.norm": "pillar_encoder.bn",
    "blocks": "backbone.multi_blocks", "deblocks": "neck.decoder_blocks",
    "dense_head": "head", "conv_box": "conv_reg",
}  # fmt: skip
INPUTS = {"MMDetection3D": 10, "zhulf0804": 9}
ROWS, COLUMNS = 3, 4


def theirs(words: dict[str, str], family: str) -> dict[str, Tensor]:
    """A checkpoint of the family: random numbers under its names."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name, value in PillarDetector(KITTI).state_dict().items():
        parts = name.removeprefix("backbone_2d.").split(".")
        if parts[0] == "blocks":
            parts[2] = str(int(parts[2]) - 1)
        if parts[0] == "global_step":
            continue
        renamed = ".".join(parts)
        for ours, other in words.items():
            renamed = renamed.replace(ours, other) if f".{ours}" in f".{renamed}" else renamed
        made = torch.randn_like(value, dtype=torch.float32) * 0.1
        tensors[renamed] = made if value.is_floating_point() else value
    if family == "zhulf0804":
        tensors["pillar_encoder.conv.weight"] = torch.randn(64, 9, 1)
    return tensors


@pytest.fixture(scope="module", params=["MMDetection3D", "zhulf0804"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(family: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Their tensors, and ours in the network that is made of them."""
    tensors = theirs(MMDETECTION3D if family == "MMDetection3D" else ZHULF0804, family)
    path = tmp_path_factory.mktemp("weights") / "epoch_160.pth"
    torch.save(tensors, path)
    source = find_source("pointpillars-kitti", ExportOptions(checkpoint=path))
    network, report = build_network(source)
    assert report is not None
    assert len(report.loaded) == len(tensors) + 1  # and the step
    return tensors, network, source


def test_classes_and_stages(loaded: Any, family: str) -> None:
    tensors, network, source = loaded
    assert source.config.classes == ("Pedestrian", "Cyclist", "Car")
    assert [a.size for a in source.config.head.anchors] == [
        (0.8, 0.6, 1.73),
        (1.76, 0.6, 1.73),
        (3.9, 1.6, 1.56),
    ]
    last = {"MMDetection3D": "backbone.blocks.2.15.weight"}.get(
        family, "backbone.multi_blocks.2.15.weight"
    )
    assert torch.equal(network.state_dict()["backbone_2d.blocks.2.16.weight"], tensors[last])
    assert any("suppression is OpenPCDet's" in note for note in source.notes)


def test_the_encoder_is_the_same_function(loaded: Any, family: str) -> None:
    """Theirs sees x and y, or x, y and z, twice: as distances from the pillar's middle."""
    tensors, network, _ = loaded
    encoder = make_encoder(KITTI)
    assert isinstance(encoder, HardPFN)
    cloud = torch.from_numpy(clouds.made(KITTI, 2, 500))
    voxels, counts, places = encoder.voxelize(cloud)
    rows = decorated(voxels, counts, pillar_centres(places, KITTI.grid), KITTI.grid)
    if family == "MMDetection3D":
        overwritten = torch.cat([rows[..., 7:10], rows[..., 3:]], dim=-1)
        weight = tensors["voxel_encoder.pfn_layers.0.linear.weight"]
    else:
        overwritten = torch.cat([rows[..., 7:9], rows[..., 2:9]], dim=-1)
        weight = tensors["pillar_encoder.conv.weight"][..., 0]
    again = network.state_dict()["vfe.pfn_layers.0.linear.weight"]
    torch.testing.assert_close(rows @ again.T, overwritten @ weight.T, atol=1e-5, rtol=1e-5)


def test_boxes_are_upstreams(loaded: Any, family: str) -> None:
    """Heads on random features, decoded by upstream's formulas and by ours."""
    tensors, network, source = loaded
    features = torch.randn(1, 384, ROWS, COLUMNS)
    head = "bbox_head" if family == "MMDetection3D" else "head"
    cls, box, ways = (
        torch.nn.functional.conv2d(
            features, tensors[f"{head}.{name}.weight"], tensors[f"{head}.{name}.bias"]
        )[0].numpy().astype(float)
        for name in ("conv_cls", "conv_reg", "conv_dir_cls")
    )  # fmt: skip
    expected = upstream_boxes(box, ways, family)
    with torch.no_grad():
        maps = [value[0].double().numpy() for value in network.dense_head(features)]
    found, scores = host.decode_anchors(maps[0], maps[1], maps[2], source.config)
    np.testing.assert_allclose(found[:, :6], expected[:, :6], rtol=1e-4, atol=1e-4)
    turned = np.angle(np.exp(1j * (found[:, 6] - expected[:, 6])))
    np.testing.assert_allclose(turned, 0, atol=1e-4)
    logits = cls.transpose(1, 2, 0).reshape(-1, 3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)


def upstream_boxes(
    box: NDArray[np.float64], ways: NDArray[np.float64], family: str
) -> NDArray[np.float64]:
    """x, y, middle z, length, width, height, yaw as OpenPCDet has them, of every anchor."""
    theirs = family == "zhulf0804"
    sizes = [(0.8, 0.6, 1.73), (1.76, 0.6, 1.73), (3.9, 1.6, 1.56)]
    bottoms, period_from = (-0.6, -0.6, -1.78), 0.0 if theirs else -np.pi / 2
    found = []
    for y in range(ROWS):
        for x in range(COLUMNS):
            for anchor in range(6):
                length, width, height = sizes[anchor // 2]
                t = box[anchor * 7 : anchor * 7 + 7, y, x]
                first, second = (width, length) if theirs else (length, width)
                place = (
                    t[0] * np.hypot(length, width) + (x + 0.5) * 69.12 / COLUMNS,
                    t[1] * np.hypot(length, width) + (y + 0.5) * 79.36 / ROWS - 39.68,
                    t[2] * height + bottoms[anchor // 2] + height / 2,
                )
                size = np.exp(t[3:6]) * (first, second, height)
                turn = t[6] + (0, 1.57)[anchor % 2] - period_from
                turn += period_from - np.floor(turn / np.pi) * np.pi
                turn += np.pi * (ways[anchor * 2 + 1, y, x] > ways[anchor * 2, y, x])
                if theirs:
                    size, turn = size[[1, 0, 2]], -turn - np.pi / 2
                found.append((*place, *size, turn))
    return np.array(found)


def test_the_graph_has_anchors_in_the_middles_too(loaded: Any) -> None:
    _, _, source = loaded
    assert isinstance(source.config.head, AnchorHead)
    places = dict(AnchorBoxes(source.config).named_buffers())
    torch.testing.assert_close(places["xs"][[0, -1]], torch.tensor([0.16, 69.12 - 0.16]))
    torch.testing.assert_close(places["ys"][[0, -1]], torch.tensor([-39.52, 39.52]))
    places = dict(AnchorBoxes(KITTI).named_buffers())
    torch.testing.assert_close(places["xs"][[0, -1]], torch.tensor([0.0, 69.12]))


def test_other_variants_are_refused(tmp_path: Path) -> None:
    torch.save(theirs(ZHULF0804, "zhulf0804"), tmp_path / "w.pth")
    with pytest.raises(UserError, match="zhulf0804's PointPillars, which is no pillarhist-mini"):
        find_source("pillarhist-mini", ExportOptions(checkpoint=tmp_path / "w.pth"))
