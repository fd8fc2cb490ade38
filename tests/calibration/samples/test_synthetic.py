from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.samples import hash_samples, open_samples
from calibration.samples.frames import FrameSamples
from calibration.samples.synthetic import Stage, scaled, stage_rig
from calibration.samples.world.ground import Ground
from calibration.samples.world.layout import Light, Scene, make_scene
from calibration.samples.world.render import GROUND, SKY, Hits, Rays, cast
from calibration.samples.world.solids import Assembly, Label, Material, Part, Solids
from calibration.samples.world.voxelize import Visibility, semantics
from exporters.errors import UserError
from exporters.flashocc.config import NANO, OCC3D_CLASSES
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.geometry import Grid, View, ego_points, sensor_to_key_ego
from exporters.flashocc.rig import Rig
from exporters.modelfile import InputSpec
from tests.calibration.sample_models import camera_spec

RNG = np.random.default_rng(0)


def small_rays(width: int = 44) -> list[Rays]:
    """Rays of the six cameras for images of that width."""
    cameras = (scaled(camera, width) for camera in nuscenes_like_rig().cameras)
    return [Rays.of(camera, camera.sensor2ego) for camera in cameras]


def random_solids(count: int, seed: int) -> Solids:
    rng = np.random.default_rng(seed)
    assembly = Assembly()
    for _ in range(count):
        size = tuple(rng.uniform(0.3, 6.0, 3))
        part = Part(
            (0.0, 0.0, rng.uniform(0, 4)), size, (0.5, 0.5, 0.5), rounded=rng.random() < 0.4
        )
        away, angle = rng.uniform(8, 25), rng.uniform(0, 2 * np.pi)
        x, y = away * np.cos(angle), away * np.sin(angle)
        assembly.add([part], Label.car, x, y, rng.uniform(0, 6))
    return assembly.solids()


def inside(solids: Solids, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of solids that hold each point ``[n, 3]``, by definition."""
    count = np.zeros(len(points), np.int64)
    for i in range(len(solids)):
        x, y, z = (points - solids.centre[i].astype(float)).T
        cos, sin = float(solids.cos[i]), float(solids.sin[i])
        local = np.stack([cos * x + sin * y, cos * y - sin * x, z], 1) / solids.half[i]
        if solids.rounded[i]:
            count += (local**2).sum(1) < 1
        else:
            count += np.abs(local).max(1) < 1
    return count


def march(rays: Rays, solids: Solids, step: float, reach: float) -> NDArray[np.float64]:
    """Depth of the first point on each ray that is inside a solid or below the ground."""
    directions = np.stack(rays.directions, -1).reshape(-1, 3).astype(float)
    depth = np.full(len(directions), np.inf)
    for d in np.arange(0.3, reach, step):
        points = rays.origin + d * directions
        hit = ((inside(solids, points) > 0) | (points[:, 2] < 0)) & np.isinf(depth)
        depth[hit] = d
    return depth.reshape(rays.directions[0].shape)


@pytest.mark.parametrize("seed", range(3))
def test_ray_casting_agrees_with_marching(seed: int) -> None:
    solids, step, reach = random_solids(12, seed), 0.02, 30.0
    rays = small_rays()[seed]
    ours = cast(rays, solids).depth
    slow = march(rays, solids, step, reach)
    near = (ours < reach - 1) & (slow < reach - 1)
    # A march cannot see chords shorter than its step, so a few grazing rays differ.
    agree = np.abs(ours[near] - slow[near]) <= 2 * step
    assert near.sum() > 300
    assert agree.mean() > 0.99
    assert np.mean(np.isinf(ours) != (slow == np.inf)) < 0.15  # beyond the reach of the march


def test_a_box_straight_ahead_is_where_it_was_put() -> None:
    assembly = Assembly()
    box = Part((0, 0, 1.5), (2.0, 2.0, 3.0), (1, 0, 0), Material.PLAIN)
    assembly.add([box], Label.truck, 12.0, 0.0, 0.0)
    solids = assembly.solids()
    rays = small_rays()
    hits = cast(rays[1], solids)  # CAM_FRONT sits at x = 1.7 m, z = 1.5 m
    assert hits.solid[12, 22] == 0
    assert hits.depth[12, 22] == pytest.approx(12 - 1 - 1.7, abs=1e-3)
    assert hits.solid[-1, 22] == GROUND
    assert hits.solid[0, 0] == SKY
    assert not (cast(rays[4], solids).solid == 0).any()  # CAM_BACK looks the other way

    scene = Scene(flat_ground(), solids, grey_light())
    labels = semantics(scene, Grid())
    x, y, z = np.nonzero(labels == Label.truck)
    assert (x.min(), x.max()) == (127, 132)  # 10.8 to 13.2 m: voxels that the box reaches into
    assert (y.min(), y.max()) == (97, 102)
    assert (z.min(), z.max()) == (2, 9)
    free = labels[:, :, 3:] == Label.free
    assert free.sum() == 200 * 200 * 13 - 6 * 6 * 7


def flat_ground() -> Ground:
    return Ground(0.0, 0.0, 200.0, 3.0, 0.0, None, 4.0, (0.0, 0.0), 1.0)


def grey_light() -> Light:
    return Light((0.0, 0.0, 1.0), 0.5, 0.5, 200.0, ((0.7, 0.7, 0.7), (0.4, 0.5, 0.7)), 0.5)


def test_every_voxel_inside_a_solid_is_occupied_and_no_voxel_far_from_one_is() -> None:
    scene = make_scene(0, 0)
    grid = NANO.grid
    fine = Grid(z_out=(-1.0, 5.4, 0.4))
    labels = semantics(scene, fine)
    chosen = RNG.integers(0, labels.size, 6000)
    index = np.stack(np.unravel_index(chosen, labels.shape), 1)
    centres = np.array([-40.0, -40, -1]) + 0.4 * (index + 0.5)
    taken = labels.ravel()[chosen] != Label.free
    held = inside(scene.solids, centres) > 0
    assert taken[held].all()
    above = index[:, 2] > 2  # the ground's layer is always taken
    grown = dataclasses.replace(scene.solids, half=scene.solids.half + np.float32(0.4 / 3 + 1e-4))
    assert (inside(grown, centres[taken & above]) > 0).all()
    assert (labels[:, :, 2] != Label.free).all()
    assert semantics(scene, grid).shape == (40, 40, 4)


def test_visible_voxels_have_a_free_line_to_a_camera() -> None:
    scene = make_scene(0, 2)
    grid = Grid()
    labels = semantics(scene, grid)
    rays = small_rays(352)
    hits: list[Hits] = [cast(ray, scene.solids) for ray in rays]
    mask = Visibility(rays, grid).mask(hits, labels)
    free = np.argwhere((labels == Label.free) & (np.arange(16) > 2))
    chosen = free[RNG.integers(0, len(free), 120)]
    centres = np.array([-40.0, -40, -1]) + 0.4 * (chosen + 0.5)
    expected = np.zeros(len(chosen), bool)
    share = np.linspace(0.02, 1.0, 300)[:, None]
    for ray in rays:
        pixels = (
            centres @ ray.to_camera[:3, :3].T + ray.to_camera[:3, 3]
        ) @ ray.camera.intrinsics.T
        u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
        seen = (pixels[:, 2] > 0.1) & (u >= 0) & (u <= 351) & (v >= 0) & (v <= 197)
        for i in np.flatnonzero(seen & ~expected):
            line = ray.origin + share * (centres[i] - ray.origin)
            expected[i] = not inside(scene.solids, line).any()
    ours = mask[tuple(chosen.T)].astype(bool)
    assert 0.1 < expected.mean() < 0.9
    assert (ours == expected).mean() >= 0.95  # depth images have pixels, so edges differ


def test_rays_pass_through_the_points_that_the_network_lifts_to() -> None:
    """Images and the pooling geometry must mean the same pixel by the same ray."""
    rig = stage_rig(camera_spec(nuscenes_like_rig()))
    view = View(image_size=(64, 176), depth=(1.0, 45.0, 11.0))
    points = ego_points(rig, view)
    top = rig.cameras[0].height - 64
    u, v = np.linspace(0, 175, 11), np.linspace(0, 63, 4) + top
    poses = sensor_to_key_ego(rig).astype(float)
    for index, (camera, pose) in enumerate(zip(rig.cameras, poses, strict=True)):
        rays = Rays.of(camera, pose)
        for row, line in enumerate(v):
            for axis in range(3):
                below, above = (rays.directions[axis][int(f(line))] for f in (np.floor, np.ceil))
                way = (1 - line % 1) * below + (line % 1) * above
                expected = rays.origin[axis] + 12.0 * np.interp(u, np.arange(176), way)
                np.testing.assert_allclose(points[index, 1, row, :, axis], expected, atol=2e-3)


def test_samples_fit_the_model_and_repeat() -> None:
    spec = camera_spec(nuscenes_like_rig())
    samples = open_samples("synthetic:3:5", spec)
    first = list(samples)
    assert [sorted(sample) for sample in first] == [
        [
            "images",
            "label.instances",
            "label.mask_camera",
            "label.ray_origins",
            "label.semantics",
        ]
    ] * 3
    assert first[0]["label.semantics"].shape == (40, 40, 4)
    assert first[0]["label.semantics"].dtype == first[0]["label.mask_camera"].dtype == np.uint8
    assert hash_samples(samples) == hash_samples(first)
    assert hash_samples(open_samples("synthetic:3:6", spec)) != hash_samples(first)
    longer = open_samples("synthetic:4:5", spec)
    assert hash_samples(list(longer)[:3]) == hash_samples(first)  # a frame does not ask how many
    assert isinstance(samples, FrameSamples)
    assert samples.rig_mismatch < 0.01  # its cameras are the model's, scaled
    assert samples.sha256 != longer.sha256


def test_every_class_occurs_and_images_look_like_something() -> None:
    spec = camera_spec()
    seen = np.zeros(18, np.int64)
    visible = []
    for sample in open_samples("synthetic:8:1", spec):
        seen += np.bincount(sample["label.semantics"].ravel(), minlength=18)
        visible.append(sample["label.mask_camera"].mean())
        for image in sample["images"]:
            assert 20 < image.mean() < 235
            assert image.std() > 4
    for index in range(8):  # small things fall through voxels of two metres
        seen += np.bincount(semantics(make_scene(1, index), Grid()).ravel(), minlength=18)
    missing = [OCC3D_CLASSES[k] for k in np.flatnonzero(seen == 0)]
    assert missing == []
    assert 0.1 < np.mean(visible) < 0.9


def test_labels_are_those_of_occ3d() -> None:
    assert tuple(label.name for label in Label) == OCC3D_CLASSES
    assert [int(label) for label in Label] == list(range(18))


def test_labels_follow_the_order_of_the_models_classes() -> None:
    reverse = camera_spec(classes=OCC3D_CLASSES[::-1])
    ours = next(iter(open_samples("synthetic:1", camera_spec())))["label.semantics"]
    theirs = next(iter(open_samples("synthetic:1", reverse)))["label.semantics"]
    assert np.array_equal(theirs, 17 - ours)
    other = camera_spec(classes=("something", "free"))
    assert set(next(iter(open_samples("synthetic:1", other)))) == {"images"}


def test_cameras_follow_the_model() -> None:
    names = ["a", "b", "c", "d"]
    images = InputSpec("images", "uint8", (4, 64, 176, 3), "camera-images", {"cameras": names})
    rig = stage_rig(camera_spec(inputs=(images,)))
    assert rig.names == tuple(names)
    assert {(camera.width, camera.height) for camera in rig.cameras} == {(176, 99)}
    assert next(iter(open_samples("synthetic:1", camera_spec(inputs=(images,)))))[
        "images"
    ].shape == (4, 64, 176, 3)
    nameless = dataclasses.replace(images, details={})
    with pytest.raises(UserError, match="does not say which cameras it takes"):
        stage_rig(camera_spec(inputs=(nameless,)))


def test_motion_between_the_shutters_is_rendered() -> None:
    """A baked rig that moves: its images are taken from where each camera was."""
    step = np.eye(4)
    step[0, 3] = 3.0
    rig = four_camera_rig()
    moved = Rig(
        (rig.cameras[0], *(dataclasses.replace(c, ego2global=step) for c in rig.cameras[1:]))
    )
    small = (Rig(tuple(scaled(camera, 176) for camera in r.cameras)) for r in (rig, moved))
    still, moving = (Stage(r).frame(0, 0).images for r in small)
    assert np.array_equal(still["CAM_FRONT"], moving["CAM_FRONT"])
    assert not np.array_equal(still["CAM_LEFT"], moving["CAM_LEFT"])
