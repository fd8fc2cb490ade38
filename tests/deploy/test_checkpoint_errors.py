"""What a bad checkpoint gets, through the real command line; the form is that of ``Refused``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import Refused


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """All keys of a small FlashOcc, as a training run would save them."""
    from exporters.flashocc.config import NANO
    from exporters.flashocc.model import FlashOcc

    network = FlashOcc(NANO, torch.nn.Identity())
    return dict(network.state_dict())


def export(refused: Refused, path: Path) -> str:
    return refused(2, "export", "flashocc-nano", "--checkpoint", path, "-o", refused.output)


def test_truncated_checkpoint(refused: Refused, checkpoint: dict[str, torch.Tensor]) -> None:
    path = refused.folder / "m.pth"
    torch.save({"state_dict": checkpoint}, path)
    path.write_bytes(path.read_bytes()[:-2000])
    line = export(refused, path)
    assert f"{path}" in line
    assert "truncated" in line


def test_foreign_checkpoint(refused: Refused) -> None:
    path = refused.folder / "resnet.pth"
    torch.save({"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}, path)
    line = export(refused, path)
    assert str(path) in line
    assert "FlashOcc" in line


def test_a_file_that_is_no_checkpoint_and_one_that_is_not_there(refused: Refused) -> None:
    path = refused.folder / "cat.pth"
    path.write_bytes(b"\xff\xd8\xff\xe0 a picture of a cat")
    assert str(path) in export(refused, path)
    assert "absent.pth" in export(refused, refused.folder / "absent.pth")


def test_a_checkpoint_that_would_run_code(refused: Refused) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(refused.output),))

    path = refused.folder / "bomb.pth"
    torch.save({"state_dict": {"a": Bomb()}}, path)
    line = export(refused, path)
    assert str(path) in line


def test_missing_key_is_named(refused: Refused, checkpoint: dict[str, torch.Tensor]) -> None:
    name = "img_backbone.layer2.0.conv2.weight"
    path = refused.folder / "m.pth"
    torch.save({"state_dict": {k: v for k, v in checkpoint.items() if k != name}}, path)
    line = export(refused, path)
    assert name in line
    assert "missing" in line or "lacks" in line


def test_extra_key_is_named(refused: Refused, checkpoint: dict[str, torch.Tensor]) -> None:
    path = refused.folder / "m.pth"
    torch.save({"state_dict": {**checkpoint, "pts_head.conv.weight": torch.zeros(2)}}, path)
    assert "pts_head.conv.weight" in export(refused, path)


def test_a_checkpoint_of_another_width(
    refused: Refused, checkpoint: dict[str, torch.Tensor]
) -> None:
    name = "img_backbone.layer2.0.conv2.weight"
    path = refused.folder / "m.pth"
    torch.save({"state_dict": {**checkpoint, name: torch.zeros(7, 7, 3, 3)}}, path)
    assert name in export(refused, path)
