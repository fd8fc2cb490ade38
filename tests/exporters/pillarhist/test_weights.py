"""Checkpoints: OpenPCDet's as they are, those of other networks by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from exporters.errors import UserError
from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.exporter import build_network
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.weights import find_source


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
        ("pillar_encoder.conv.weight", "is not that of zhulf0804's PointPillars on KITTI"),
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
