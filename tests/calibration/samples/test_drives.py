"""Generated drives: what the sensors of one moment say of each other, and of the next moment."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.samples import hash_samples, labels_of, open_samples
from calibration.samples.drives import PERIOD_S, Drive, KeyFrame, Sensors
from calibration.samples.synthetic import parse_synthetic, scaled
from calibration.samples.world.lidar import BEAMS_64, traversed
from calibration.samples.world.solids import Label
from deploy.metrics.boxes.from_samples import nuscenes_truth
from exporters.errors import UserError
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.geometry import Grid
from exporters.flashocc.rig import Rig
from exporters.modelfile import InputSpec
from tests.calibration.sample_models import camera_spec

FRAMES = 3


def small(rig: Rig, width: int = 176) -> Rig:
    return Rig(tuple(scaled(camera, width) for camera in rig.cameras))


@pytest.fixture(scope="module")
def drive() -> Drive:
    """A drive in which the vehicle moves."""
    return Drive(3, 1, FRAMES, Sensors(small(nuscenes_like_rig())))


@pytest.fixture(scope="module")
def frames(drive: Drive) -> list[KeyFrame]:
    return list(drive)


def local(box_centre: NDArray[np.float64], yaw: float, points: NDArray[np.float64]) -> NDArray:
    """Points in the axes of a box."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    x, y, z = (points - box_centre).T
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1)


def in_ego(drive: Drive, frame: KeyFrame) -> NDArray[np.float64]:
    mount = drive.sensors.lidar2ego
    return frame.scan.points[:, :3].astype(float) @ mount[:3, :3].T + mount[:3, 3]


def test_the_vehicle_and_everything_moves_as_its_speed_says(frames: list[KeyFrame]) -> None:
    moving = 0
    for before, after in itertools.pairwise(frames):
        step = np.linalg.inv(before.ego2global) @ after.ego2global
        assert 1.5 < np.hypot(*step[:2, 3]) < 6.0  # 4 to 11 m/s for half a second
        later = {box.number: box for box in after.boxes}
        for box in before.boxes:
            if box.number not in later:
                continue
            turn = before.ego2global[:2, :2] @ box.actor.velocity
            start = before.ego2global @ [*box.actor.centre, 1]
            end = after.ego2global @ [*later[box.number].actor.centre, 1]
            # Positions are stored as float32 at some hundred metres.
            np.testing.assert_allclose(end[:2] - start[:2], PERIOD_S * turn, atol=1e-3)
            assert later[box.number].actor.size == box.actor.size
            moving += np.hypot(*turn) > 1
    assert moving > 5


def test_cameras_have_times_and_poses_of_their_own(frames: list[KeyFrame]) -> None:
    for frame in frames:
        late = (frame.timestamp_us - np.array(frame.camera_times_us)) / 1e6
        assert (late >= 0).all()
        assert (late <= Sensors().turn_s).all()
        assert len(set(frame.camera_times_us)) == len(frame.cameras.rig)
        back = np.linalg.inv(frame.ego2global)
        ahead = [(back @ c.ego2global)[0, 3] for c in frame.cameras.rig.cameras]
        speed = -np.array(ahead) / np.maximum(late, 1e-9)
        assert np.ptp(speed[late > 0.001]) < 0.5  # one speed explains all poses


def test_points_lie_on_boxes_and_in_taken_voxels(drive: Drive, frames: list[KeyFrame]) -> None:
    grid = Grid()
    for frame in frames:
        points = in_ego(drive, frame)
        assert 20_000 < len(points) < 32 * 1086
        assert frame.scan.points[:, 3].min() >= 0
        assert frame.scan.points[:, 3].max() <= 255
        assert set(np.unique(frame.scan.points[:, 4])) <= set(range(32))
        cells = np.floor((points - [-40, -40, -1]) / 0.4).astype(int)
        inside = ((cells >= 0) & (cells < [200, 200, 16])).all(axis=1)
        taken = frame.cameras.labels["semantics"][tuple(cells[inside].T)] != Label.free
        # Solids are grown by a third of a voxel, thinner ones can slip through the centres.
        assert taken.mean() > 0.88
        mask = traversed(points.astype(np.float32), drive.sensors.lidar2ego[:3, 3], grid)
        assert mask[tuple(cells[inside].T)].all()
        assert np.array_equal(mask, frame.cameras.labels["mask_lidar"])
        counted = 0
        for box in frame.boxes:
            near = local(np.array(box.actor.centre), box.actor.yaw, points)
            held = (np.abs(near) < np.array(box.actor.size) / 2 + 0.1).all(axis=1)  # 5 sigma
            assert held.sum() >= box.points
            counted += box.points
        assert counted > 300


def test_ids_belong_to_boxes(frames: list[KeyFrame]) -> None:
    checked = 0
    for frame in frames:
        labels = frame.cameras.labels
        ids, semantics = labels["instances"], labels["semantics"]
        assert ((ids == 0) == (semantics == Label.free)).all()
        for number in np.unique(ids[ids > 0]):
            kinds = np.unique(semantics[ids == number])
            assert len(kinds) == 1
            voxels = np.argwhere(ids == number)
            boxes = [b for b in frame.boxes if b.actor.label == kinds[0]]
            if Label(kinds[0]) in (Label.car, Label.bus, Label.truck):
                places = voxels * 0.4 + [-39.8, -39.8, -0.8]
                reach = [
                    np.abs(local(np.array(b.actor.centre), b.actor.yaw, places)).max(axis=0)
                    - np.array(b.actor.size) / 2
                    for b in boxes
                ]
                assert min(gap.max() for gap in reach) < 0.4  # all its voxels in one box
                checked += 1
    assert checked > 5


def test_rays_start_where_the_lidar_was(drive: Drive, frames: list[KeyFrame]) -> None:
    for number, frame in enumerate(frames):
        origins = frame.cameras.labels["ray_origins"]
        assert origins.shape == (FRAMES, 3)
        np.testing.assert_allclose(origins[number], drive.sensors.lidar2ego[:3, 3], atol=1e-9)


def test_nothing_moves_at_a_red_light_but_people_on_foot() -> None:
    waiting = next(d for d in (Drive(0, i, 2) for i in range(40)) if d._start[1].waits)
    assert np.array_equal(waiting.ego_at(0.0), waiting.ego_at(5.0))
    speeds = {a.label for a in waiting._scene.actors if np.hypot(*a.velocity) > 0}
    assert speeds <= {Label.pedestrian}


def test_vehicles_never_touch() -> None:
    """Over ten seconds, what drives stays apart from everything else that is no ground."""
    for index in range(6):
        drive = Drive(11, index, 20)
        actors = [a for a in drive._scene.actors if a.label not in (Label.manmade,)]
        driving = [a for a in actors if np.hypot(*a.velocity) > 2]
        for seconds in (0.0, 2.5, 5.0, 9.5):
            ego = drive.ego_at(seconds)[:2, 3]
            for actor in driving:
                x = actor.centre[0] + seconds * actor.velocity[0]
                y = actor.centre[1] + seconds * actor.velocity[1]
                apart = local(np.array([x, y, 0.0]), actor.yaw, np.array([[*ego, 0.0]]))[0]
                assert abs(apart[0]) > actor.size[0] / 2 or abs(apart[1]) > actor.size[1] / 2 + 0.9


def test_a_frame_does_not_ask_what_came_before(drive: Drive, frames: list[KeyFrame]) -> None:
    again = dataclasses.replace(drive.sensors)
    alone = Drive(3, 1, FRAMES, again).key_frame(2)
    assert np.array_equal(alone.scan.points, frames[2].scan.points)
    for name, image in alone.cameras.images.items():
        assert np.array_equal(image, frames[2].cameras.images[name])
        assert not np.array_equal(image, frames[1].cameras.images[name])


def test_other_sensors() -> None:
    sensors = Sensors(small(four_camera_rig(), 64), BEAMS_64, np.eye(4) + np.eye(4, k=3) * 0)
    frame = Drive(0, 0, 1, sensors).key_frame(0)
    assert set(frame.cameras.images) == {"CAM_FRONT", "CAM_LEFT", "CAM_BACK", "CAM_RIGHT"}
    assert frame.scan.points[:, 4].max() == 63
    dark = Drive(0, 0, 1, sensors, images=False).key_frame(0)
    assert not any(image.any() for image in dark.cameras.images.values())
    assert np.array_equal(dark.scan.points, frame.scan.points)


def test_drives_are_samples() -> None:
    samples = open_samples("synthetic:2x2:5", camera_spec(nuscenes_like_rig()))
    assert samples.groups == ("drive-5-000", "drive-5-000", "drive-5-001", "drive-5-001")
    first = samples.sample(1)
    assert set(first) == {
        "images",
        *(
            f"label.{name}"
            for name in ("semantics", "mask_camera", "mask_lidar", "instances", "ray_origins")
        ),
    }
    assert first["label.semantics"].shape == (40, 40, 4)
    assert hash_samples([samples.sample(1)]) == hash_samples([first])
    details = {"columns": ["x", "y", "z", "intensity", "ring"]}
    points = InputSpec("points", "float32", (40_000, 5), "points", details)
    scans = open_samples("synthetic:1x2:5", camera_spec(inputs=(points,), geometry={}))
    sample = scans.sample(0)
    assert sample["points"].shape == (40_000, 5)
    assert sample["label.boxes"].shape == (len(sample["label.box_names"]), 7)
    truth = nuscenes_truth(labels_of(sample))  # the metric finds all that it needs
    assert len(truth) == len(sample["label.boxes"])
    actors = Drive(5, 0, 2).key_frame(0).boxes
    speeds = [np.hypot(*box.actor.velocity) for box in actors]
    np.testing.assert_allclose(np.hypot(*truth.velocity.T), speeds, atol=1e-5)
    assert "vehicle.moving" in truth.attributes


def test_what_can_be_asked_for() -> None:
    assert dataclasses.astuple(parse_synthetic("synthetic:2x20:7")) == (20, 7, 2)
    assert dataclasses.astuple(parse_synthetic("synthetic:4")) == (4, 0, 0)
    for wrong in ("synthetic:0x4", "synthetic:2x0", "synthetic:2x", "synthetic:x2"):
        with pytest.raises(UserError, match="names no synthetic samples") as caught:
            parse_synthetic(wrong)
        assert "DRIVESxFRAMES" in str(caught.value.fix)
