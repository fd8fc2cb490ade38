"""Twenty frames one by one through the exported graph, against the network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.random_weights import generated_images
from exporters.flashocc.rig import Camera, CameraFrame, Rig
from exporters.modelfile import ModelSpec, StateSpec
from exporters.panoptic_flashocc import export, prepare
from exporters.panoptic_flashocc.memory import Memory
from exporters.panoptic_flashocc.ports import cell_motion
from exporters.streaming import Stream
from exporters.variants import ExportResult
from tests.exporters.panoptic_flashocc.nets import GRID, OPTIONS, random_network, remembering, saved

FRAMES, SCENE_CHANGE = 20, 12


def pose(step: int) -> NDArray[np.float64]:
    """A vehicle that drives a curve, two metres a step."""
    angle, matrix = 0.05 * step, np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = 100 + 2.0 * step * np.cos(angle), 50 + 2.0 * step * np.sin(angle), 0.1 * step
    return matrix


def rig_at(step: int) -> Rig:
    return Rig(
        tuple(
            Camera(c.name, 64, 36, c.intrinsics * [[0.04], [0.04], [1]], c.sensor2ego, pose(step))
            for c in nuscenes_like_rig().cameras
        )
    )


def drive() -> Iterator[CameraFrame]:
    """Two scenes, the second from frame ``SCENE_CHANGE`` on."""
    for step in range(FRAMES):
        start = SCENE_CHANGE if step >= SCENE_CHANGE else 0
        rig = rig_at(step)
        past = tuple(rig_at(earlier) for earlier in range(step - 1, start - 1, -1))
        images = dict(zip(rig.names, generated_images(6, (36, 64), step), strict=True))
        yield CameraFrame(f"frame-{step}", rig, images, {}, past)


@pytest.fixture(scope="module", params=[1, 3])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A network with a memory of so many frames, and its model file with logits."""
    folder: Path = tmp_path_factory.mktemp("stream")
    frames = list(drive())
    network = random_network(remembering(request.param))
    result = export(
        "panoptic-flashocc",
        folder / "m.onnx",
        checkpoint=saved(network, folder),
        rig=frames[0].rig,
        logits=True,
        **OPTIONS,
    )
    return network, result, frames


def session_of(result: ExportResult) -> Any:
    session = ort.InferenceSession(str(result.model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def in_torch(network: Any, spec: ModelSpec, frames: list[CameraFrame]) -> Iterator[Any]:
    """The online form with a plain list of past maps."""
    maps: list[torch.Tensor] = []
    vectors = torch.from_numpy(camera_vectors(frames[0].rig, network_view(spec)))
    memory = Memory(GRID)
    for frame in frames:
        sample = prepare(frame, spec)
        if not frame.past:
            maps.clear()
        with torch.no_grad():
            bev = network.bev_map(
                CameraInput()(torch.from_numpy(sample["images"])), cameras=vectors
            )
            count = network.history
            history = (maps + [bev] * count)[:count]
            motion, length = sample["history_motion"], np.array([len(maps)], np.int32)
            past = memory(bev, history, torch.from_numpy(motion), torch.from_numpy(length))
            yield network.predict(bev, past).logits.numpy()
        maps.insert(0, bev)


def network_view(spec: ModelSpec) -> Any:
    from exporters.flashocc.geometry import View

    return View.from_json(spec.geometry["view"])


def test_a_stream_of_twenty_frames_equals_the_online_form(exported: Any) -> None:
    network, result, frames = exported
    spec = result.model.require_spec()
    stream = Stream(spec, session_of(result))
    count = 0
    for frame, expected in zip(frames, in_torch(network, spec, frames), strict=True):
        found = stream.run(prepare(frame, spec))["logits"]
        # float32 through forty layers; a wrong map would be a thousand times further off
        np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std(), rtol=0)
        count += 1
    assert count == FRAMES


def test_the_past_matters_and_a_scene_change_forgets_it(exported: Any) -> None:
    _, result, frames = exported
    spec, run = result.model.require_spec(), session_of(result)
    continued, fresh = Stream(spec, run), Stream(spec, run)
    different = []
    for frame in frames[: SCENE_CHANGE + 1]:
        fresh.reset()
        sample = prepare(frame, spec)
        alone = fresh.run({**sample, "history_length": np.zeros(1, np.int32)})["logits"]
        different.append(not np.array_equal(continued.run(sample)["logits"], alone))
    # the first frame of each scene has no past, whatever the memory holds
    assert different == [False, *[True] * (SCENE_CHANGE - 1), False]


def test_states_are_declared(exported: Any) -> None:
    network, result, _ = exported
    spec = result.model.require_spec()
    names = [f"history_{age}" for age in range(1, network.history + 1)]
    assert [(s.output, s.input, s.age) for s in spec.states] == [
        ("bev", name, age) for age, name in enumerate(names, start=1)
    ]
    assert [port.name for port in spec.inputs] == [
        "images",
        "history_motion",
        "history_length",
        *names,
    ]
    assert spec.output("bev").shape == spec.input("history_1").shape == (1, 8, 24, 16)
    assert "memory" in spec.keep_float


def counter(reset: Any, ages: tuple[int, ...]) -> Stream:
    """``y = x + 10 * sum of past y``, as a model with states."""
    from exporters.modelfile import InputSpec, OutputSpec, WeightsSource

    names = [f"past_{age}" for age in ages]
    ports = tuple(InputSpec(name, "float32", (1,), "state") for name in names)
    states = tuple(
        StateSpec("now", name, reset, age) for age, name in zip(ages, names, strict=True)
    )
    spec = ModelSpec(
        "v", "f", "t", (InputSpec("x", "float32", (1,)), *ports),
        (OutputSpec("now", "float32", (1,)),), WeightsSource("random", seed=0), states=states,
    )  # fmt: skip

    def run(feeds: Any) -> Any:
        assert set(feeds) == {"x", *names}
        return {"now": feeds["x"], "y": feeds["x"] + 10 * sum(feeds[name] for name in names)}

    return Stream(spec, run)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [("zeros", [1, 2, 13, 24, 35]), ("repeat-current", [11, 22, 13, 24, 35])],
)
def test_an_input_may_remember_two_samples_ago(reset: str, expected: list[float]) -> None:
    stream = counter(reset, (2,))
    found = [float(stream.run({"x": np.full(1, x, np.float32)})["y"][0]) for x in (1, 2, 3, 4, 5)]
    assert found == expected


def test_cells_move_as_the_vehicle_did() -> None:
    ahead = np.eye(4)
    ahead[0, 3] = 4.0  # two cells of two metres
    (motion,) = cell_motion(ahead, [np.eye(4)], GRID, 1)
    np.testing.assert_allclose(motion @ [3, 5, 1], [5, 5], atol=1e-6)
    bev = torch.arange(16 * 24.0).reshape(1, 1, 24, 16)
    (warped,) = Memory(GRID)(
        torch.zeros_like(bev),
        [bev],
        torch.from_numpy(motion)[None],
        torch.ones(1, dtype=torch.int32),
    )
    np.testing.assert_allclose(warped[0, 0, :, :13], bev[0, 0, :, 2:15], atol=1e-3)
    assert not warped[0, 0, :, 14:].any()  # was out of sight


def test_memory_samples_by_the_formula() -> None:
    random = np.random.default_rng(0)
    bev = random.standard_normal((1, 3, 24, 16)).astype(np.float32)
    motion = cell_motion(pose(7), [pose(5), pose(2)], GRID, 2)
    found = Memory(GRID)(
        torch.zeros(1, 3, 24, 16),
        [torch.from_numpy(bev)] * 2,
        torch.from_numpy(motion),
        torch.tensor([2], dtype=torch.int32),
    )
    for matrix, past in zip((pose(5), pose(2)), found, strict=True):
        for x, y in ((0, 0), (3, 20), (15, 23), (8, 11)):
            metres = np.array([GRID.x[0] + 2 * x, GRID.y[0] + 2 * y, 0, 1])
            there = np.linalg.inv(matrix) @ pose(7) @ metres
            column, row = (there[0] - GRID.x[0]) / 2, (there[1] - GRID.y[0]) / 2
            expected = np.zeros(3)
            for i in (int(np.floor(column)), int(np.floor(column)) + 1):
                for j in (int(np.floor(row)), int(np.floor(row)) + 1):
                    if 0 <= i < 16 and 0 <= j < 24:
                        weight = (1 - abs(column - i)) * (1 - abs(row - j))
                        expected += weight * bev[0, :, j, i]
            np.testing.assert_allclose(past[0, :, y, x], expected, atol=1e-4)
