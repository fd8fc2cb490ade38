"""Checkpoints: OpenPCDet's as they are, MMDetection3D's as the same function, others by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from exporters.errors import UserError
from exporters.pillarhist.config import CONFIGS, KITTI
from exporters.pillarhist.encoders import HardPFN, decorated, make_encoder, pillar_centres
from exporters.pillarhist.exporter import build_network
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.weights import find_source
from tests.exporters.pillarhist import clouds


def saved(folder: Path, tensors: dict[str, Any], **more: Any) -> Path:
    path = folder / "checkpoint.pth"
    torch.save({"model_state": tensors, "epoch": 80, "it": 1, "version": "0.6", **more}, path)
    return path


def test_openpcdet_is_loaded_whole(tmp_path: Path) -> None:
    trained = PillarDetector(CONFIGS["pillarhist-mini"]).state_dict()
    path = saved(tmp_path, {f"module.{name}": value for name, value in trained.items()})
    source = find_source("pillarhist-mini", ExportOptions(checkpoint=path))
    network, report = build_network(source)
    assert report is not None
    assert len(report.loaded) == len(trained)
    assert report.notes == ("epoch 80",)
    for name, value in network.state_dict().items():
        assert torch.equal(value, trained[name]), name


def test_bins_and_projection_are_read_from_the_file(tmp_path: Path) -> None:
    config = CONFIGS["pillarhist-mini"]
    encoder = replace(config.encoder, bins=10, proj="linear")  # type: ignore[call-arg]
    trained = PillarDetector(replace(config, encoder=encoder)).state_dict()
    del trained["global_step"]  # as where weights alone were saved
    path = saved(tmp_path, trained)
    source = find_source("pillarhist-mini", ExportOptions(checkpoint=path))
    assert source.config.encoder == encoder
    build_network(source)
    with pytest.raises(UserError, match="has an encoder of 22 inputs, 12 height bins have 26"):
        find_source("pillarhist-mini", ExportOptions(checkpoint=path, bins=12))


def test_missing_and_extra_keys_are_named(tmp_path: Path) -> None:
    trained = PillarDetector(CONFIGS["pointpillars-mini"]).state_dict()
    trained["dense_head.more"] = trained.pop("dense_head.shared_conv.0.bias")
    source = find_source("pointpillars-mini", ExportOptions(checkpoint=saved(tmp_path, trained)))
    with pytest.raises(UserError, match=r"lacks 1 keys \(dense_head\.shared_conv\.0\.bias\)"):
        build_network(source)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("pillar_encoder.conv.weight", "zhulf0804/PointPillars, whose boxes have another yaw"),
        ("backbone_3d.conv_input.0.weight", "has a 3-D backbone"),
        ("dense_head.weight", "no pillar detector of OpenPCDet"),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path: Path, key: str, words: str) -> None:
    path = saved(tmp_path, {key: torch.zeros(2)})
    with pytest.raises(UserError, match=words):
        find_source("pointpillars-kitti", ExportOptions(checkpoint=path))


def test_the_wrong_encoder_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, PillarDetector(CONFIGS["pillarhist-mini"]).state_dict())
    with pytest.raises(UserError, match="its encoder has 34 inputs and 1 layers, the variant 10"):
        find_source("pointpillars-mini", ExportOptions(checkpoint=path))


def test_mmdetection3d_becomes_the_same_function(tmp_path: Path) -> None:
    """Its encoder sees x, y, z twice, as distances from the pillar; classes in its own order."""
    ours = PillarDetector(KITTI).state_dict()
    theirs = {_their_name(name): value for name, value in ours.items() if name != "global_step"}
    path = tmp_path / "mmdetection3d.pth"
    torch.save({"meta": {"epoch": 160}, "state_dict": theirs}, path)
    source = find_source("pointpillars-kitti", ExportOptions(checkpoint=path))
    assert source.config.classes == ("Pedestrian", "Cyclist", "Car")
    assert [a.size[0] for a in source.config.head.anchors] == [0.8, 1.76, 3.9]  # type: ignore[union-attr]
    network, report = build_network(source)
    assert report is not None
    assert torch.equal(network.state_dict()["backbone_2d.blocks.2.16.weight"],
                       ours["backbone_2d.blocks.2.16.weight"])  # fmt: skip
    encoder = make_encoder(KITTI)
    assert isinstance(encoder, HardPFN)
    cloud = torch.from_numpy(clouds.made(KITTI, 2, 500))
    voxels, counts, places = encoder.voxelize(cloud)
    rows = decorated(voxels, counts, pillar_centres(places, KITTI.grid), KITTI.grid)
    overwritten = torch.cat([rows[..., 7:10], rows[..., 3:]], dim=-1)
    weight: Tensor = ours["vfe.pfn_layers.0.linear.weight"]
    again = network.state_dict()["vfe.pfn_layers.0.linear.weight"]
    torch.testing.assert_close(rows @ again.T, overwritten @ weight.T, atol=1e-5, rtol=1e-5)


def _their_name(name: str) -> str:
    parts = name.replace("vfe.", "voxel_encoder.").replace("conv_box", "conv_reg").split(".")
    if parts[0] == "backbone_2d":
        if parts[1] == "blocks":
            parts[3] = str(int(parts[3]) - 1)
        parts[0] = "backbone" if parts[1] == "blocks" else "neck"
    return ".".join(parts).replace("dense_head", "bbox_head")
