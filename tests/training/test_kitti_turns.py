"""Frames of KITTI as training data: generated ones, of which it is known whose the points are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.samples.kitti_writing import kitti_drives, write_kitti
from exporters.errors import UserError
from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.model import PillarDetector
from training import pillarhist_mini
from training.clouds import turn_of
from training.kitti_turns import KittiTurns
from training.loop import Place, Schedule
from training.pillarhist_mini import VARIANTS, Run, write_weights

CLASSES = CONFIGS[VARIANTS[0]].classes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "kitti"
    return write_kitti(kitti_drives(1, 2, 3, images=False), folder)


def test_points_are_found_in_the_boxes_that_they_are_of(root: Path) -> None:
    turns = KittiTurns.open(root, CLASSES)
    assert len(turns) == 2
    turn = turns[0]
    known = turn_of(kitti_drives(1, 2, 3)[0], 0, CLASSES)
    assert turn["ahead"]
    assert set(turn["boxes"][:, 0].astype(int)) <= {0, 1, 2}
    owned = 0
    for row, box in enumerate(turn["boxes"]):
        distance = np.linalg.norm(known["boxes"][:, 1:4] - box[1:4], axis=1)
        same = int(distance.argmin())
        assert distance[same] < 0.02  # labels have two digits
        mine = int((turn["owner"] == row).sum())
        theirs = int((known["owner"] == same).sum())
        # ranges are noisy, so some points of a box lie outside; the image cuts some others off
        assert mine <= theirs + 5
        owned += mine
    assert owned > 100


def test_folders_that_cannot_be_learnt_from_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no KITTI root"):
        KittiTurns.open(tmp_path, CLASSES)
    for name in ("velodyne", "calib"):
        (tmp_path / "training" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"no frame of .* has labels"):
        KittiTurns.open(tmp_path, CLASSES)


def test_fine_tuning_starts_from_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    turns, plan = KittiTurns.open(root, CLASSES), Schedule(frames=2, steps=1, batch=2)
    start = tmp_path / "start.safetensors"
    place = Place(0, 1, torch.device("cpu"))
    first = Run(VARIANTS[0], plan, place, turns, tmp_path, PillarDetector(CONFIGS[VARIANTS[0]]))
    write_weights(first, start)
    work = tmp_path / "fine"
    arguments = ["--work", work, "--kitti", root, "--start", start, "--steps", 1, "--batch", 2]
    arguments += ["--rate", 1e-9, "--average", 0.0]
    monkeypatch.setattr(sys, "argv", ["pillarhist_mini", *map(str, arguments)])
    pillarhist_mini.main()
    tuned = pillarhist_mini.trained(VARIANTS[0], work / f"{VARIANTS[0]}.safetensors")
    before = pillarhist_mini.trained(VARIANTS[0], start)
    weights = {k: v for k, v in before.state_dict().items() if k.endswith("weight")}
    for name, value in weights.items():  # at this rate nothing moves but rounding to float16
        torch.testing.assert_close(tuned.state_dict()[name], value, atol=1e-3, rtol=1e-2)
    assert (work / f"{VARIANTS[0]}.json").is_file()
