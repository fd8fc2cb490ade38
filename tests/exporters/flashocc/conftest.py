"""Things that take seconds to make and are the same for many tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exporters.flashocc import export
from exporters.flashocc.config import NANO
from exporters.flashocc.exporter import build_network, make_geometry
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.weights import find_source
from exporters.variants import ExportResult


@pytest.fixture(scope="session")
def mini() -> FlashOcc:
    """The mini network with random weights of seed 0 and the synthetic rig; do not change it."""
    options = ExportOptions()
    source = find_source("flashocc-nano", options)
    assert source.config == NANO
    network, _ = build_network(source, make_geometry(NANO, options))
    return network


@pytest.fixture(scope="session")
def mini_export(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """``flashocc-nano`` exported with all defaults."""
    return export("flashocc-nano", tmp_path_factory.mktemp("mini") / "mini.onnx")


@pytest.fixture(scope="session")
def mini_checkpoint(mini: FlashOcc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini network's weights as an mmcv checkpoint."""
    path: Path = tmp_path_factory.mktemp("weights") / "mini.pth"
    torch.save({"meta": {"epoch": 24}, "state_dict": mini.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def rig_export(mini_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The mini checkpoint with the rig as input and logits as output."""
    path: Path = tmp_path_factory.mktemp("rig") / "rig.onnx"
    return export("flashocc-nano", path, checkpoint=mini_checkpoint, rig="input", logits=True)
