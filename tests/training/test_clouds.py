"""Turns of a LiDAR as training data: whose points are whose, and what becomes of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.encoders import HardPFN
from exporters.pillarhist.model import PillarDetector
from training.cloud_batches import (
    LEAST_RETURNS,
    Things,
    batch_of,
    changed,
    example,
    fast_voxels,
    with_things,
)
from training.clouds import FRAMES, Clouds, returns_of
from training.pillar_trainee import PillarTrainee

CLASSES = ("Car", "Pedestrian", "Cyclist")
NOISE_M = 0.15  # of ranges, seven deviations


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Clouds:
    """Two turns of KITTI's sensor, and one of nuScenes'."""
    made = Clouds(tmp_path_factory.mktemp("clouds"), CLASSES, 3, 2)
    made.scan()
    return made


def inside(points: NDArray[np.float32], box: NDArray[np.float32], margin: float) -> bool:
    away = points[:, :3] - box[1:4]
    cos, sin = math.cos(box[7]), math.sin(box[7])
    own = np.c_[away[:, :2] @ [[cos, -sin], [sin, cos]], away[:, 2]]
    return bool((np.abs(own) <= box[4:7] / 2 + margin).all())


def require_points_in_their_boxes(
    points: NDArray[np.float32],
    owner: NDArray[np.int16],
    boxes: NDArray[np.float32],
    margin: float = NOISE_M,
) -> int:
    owned = 0
    for row, box in enumerate(boxes):
        mine = points[owner == row]
        owned += len(mine)
        assert inside(mine, box, margin)
    return owned


def test_points_lie_in_the_boxes_that_own_them(clouds: Clouds) -> None:
    turn = clouds[0]
    assert require_points_in_their_boxes(turn["points"], turn["owner"], turn["boxes"]) > 100
    assert returns_of(turn).sum() == (turn["owner"] >= 0).sum()
    assert turn["ahead"]
    assert 0 <= turn["points"][:, 3].min() < turn["points"][:, 3].max() <= 1
    across = np.arctan2(turn["points"][:, 1], turn["points"][:, 0])
    assert np.abs(across).max() < math.radians(45)  # what the camera sees


def test_every_fourth_drive_has_the_other_sensor(tmp_path: Path) -> None:
    made = Clouds(tmp_path, CLASSES, 3, 3 * FRAMES + 1)
    for index in range(3 * FRAMES):  # as if they had been scanned
        made.folder.mkdir(parents=True, exist_ok=True)
        made.path(index).touch()
    made.scan()
    turn = made[3 * FRAMES]
    assert not turn["ahead"]
    assert turn["points"][:, 0].min() < -20
    assert require_points_in_their_boxes(turn["points"], turn["owner"], turn["boxes"]) > 100


def test_a_turn_is_scanned_once(clouds: Clouds) -> None:
    times = [clouds.path(index).stat().st_mtime_ns for index in range(2)]
    clouds.scan()
    assert [clouds.path(index).stat().st_mtime_ns for index in range(2)] == times


@pytest.mark.parametrize("ahead", [True, False])
def test_points_stay_in_their_boxes_when_turns_are_changed(clouds: Clouds, ahead: bool) -> None:
    turn = clouds[0]
    for seed in range(5):
        points, boxes = changed(
            turn["points"], turn["boxes"], np.random.default_rng(seed), ahead=ahead
        )
        require_points_in_their_boxes(points, turn["owner"], boxes, NOISE_M * 1.05)
        assert not np.allclose(points, turn["points"])


def test_things_are_put_where_nothing_stands(clouds: Clouds) -> None:
    turn = clouds[0]
    things = Things([clouds[0], clouds[1]])
    found = [t for seed in range(20) for t in things.chosen(True, np.random.default_rng(seed))]
    assert found
    assert {int(thing.box[0]) for thing in found} <= {1, 2}
    points, boxes = with_things(turn["points"], turn["boxes"], found)
    assert len(boxes) >= len(turn["boxes"])
    places, sizes = boxes[:, 1:3], np.hypot(boxes[:, 4], boxes[:, 5])
    for row in range(len(turn["boxes"]), len(boxes)):
        distance = np.hypot(*(places[:row] - places[row]).T)
        assert (distance >= (sizes[:row] + sizes[row]) / 2).all()
    again, same = with_things(turn["points"], turn["boxes"], found[:1] * 2)
    assert len(same) <= len(turn["boxes"]) + 1
    assert len(again) <= len(points) + 10_000


def test_boxes_without_returns_are_not_asked_for(clouds: Clouds) -> None:
    turn = clouds[0]
    points, boxes = example(turn, None, np.random.default_rng(0))
    assert len(boxes) == (returns_of(turn) >= LEAST_RETURNS).sum()
    assert sorted(map(tuple, points)) == sorted(map(tuple, turn["points"]))


def test_pillars_without_a_loop_are_the_same(clouds: Clouds) -> None:
    network = PillarDetector(CONFIGS["pointpillars-mini"])
    encoder = network.vfe
    assert isinstance(encoder, HardPFN)
    points = torch.from_numpy(clouds[0]["points"])
    voxels, counts, pillars = encoder.voxelize(points)
    order = torch.argsort(pillars)
    fast = fast_voxels(encoder, points)
    assert int(counts.max()) == 32  # some have more points than are kept
    for slow, quick in zip((voxels, counts, pillars), fast, strict=True):
        assert torch.equal(slow[order], quick)


@pytest.mark.parametrize("variant", ["pillarhist-mini", "pointpillars-mini"])
def test_a_batch_gives_the_maps_of_its_clouds(clouds: Clouds, variant: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[variant]
    network = PillarDetector(config)
    trainee = PillarTrainee(network).eval()
    rng = np.random.default_rng(0)
    examples = [example(clouds[index], None, rng) for index in range(2)]
    with torch.no_grad():
        both = trainee.maps(batch_of(examples, network.vfe, config))
        for number, (points, _) in enumerate(examples):
            (alone,) = network(torch.from_numpy(points))
            for name, maps in alone.items():
                # float32 sums in other orders
                torch.testing.assert_close(both[name][number], maps[0], atol=1e-4, rtol=1e-4)
