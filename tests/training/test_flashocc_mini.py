"""The training loop on two frames of the smallest network: it learns, stops and goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from exporters.flashocc.exporter import make_geometry
from exporters.flashocc.options import ExportOptions
from exporters.panoptic_flashocc.config import CONFIGS, NANO
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from training import flashocc_mini
from training.flashocc_mini import Plan, Run, as_tensors, finish, write_weights
from training.loop import Place
from training.scenes import Scenes
from training.trainee import Trainee, total

PLAN = Plan(seed=1, frames=2, steps=6, batch=2, rate=3e-3, warm_up=1, average=0.5)
PLACE = Place(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def scenes(work: Path) -> Scenes:
    made = Scenes(work / "cache", NANO.view, NANO.grid, PLAN.seed, PLAN.frames)
    made.render()
    return made


@pytest.fixture(autouse=True)
def nano(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashocc_mini, "CONFIGS", {**CONFIGS, flashocc_mini.VARIANT: NANO})


def test_frames_are_whole_and_rendered_once(scenes: Scenes) -> None:
    frame = scenes[1]
    assert {name: array.shape for name, array in frame.items() if name != "boxes"} == {
        "images": (6, 64, 176, 3),
        "semantics": (40, 40, 4),
        "mask_camera": (40, 40, 4),
        "instances": (40, 40, 4),
        "ray_origins": (1, 3),
        "depth": (6, 4, 11),
    }
    assert frame["boxes"].shape[1] == 8
    times = [scenes.path(index).stat().st_mtime_ns for index in range(2)]
    scenes.render()
    assert [scenes.path(index).stat().st_mtime_ns for index in range(2)] == times
    assert dataclasses.replace(scenes, seed=2).folder != scenes.folder


def test_losses_fall(scenes: Scenes, work: Path) -> None:
    run = Run(dataclasses.replace(PLAN, steps=20), PLACE, scenes, work / "falls")
    run.work.mkdir()
    run.train(every=4)
    first, last = run.history[0], run.history[-1]
    assert last["step"] == 20
    for name in ("occupancy", "depth", "centres"):
        assert last[name] < 0.9 * first[name]
    weights = finish(run)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_an_interrupted_run_goes_on(scenes: Scenes, work: Path) -> None:
    folder = work / "stops"
    folder.mkdir()
    half = Run(dataclasses.replace(PLAN, steps=3), PLACE, scenes, folder)
    half.train(every=3)
    rest = Run(PLAN, PLACE, scenes, folder)
    rest.resume()
    assert rest.step == 3
    for name, value in half.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name])
    rest.train(every=3)
    assert [line["step"] for line in rest.history] == [3, 6]
    write_weights(rest, folder / "w.safetensors")
    assert (folder / "w.safetensors").stat().st_size > 1000


def test_a_batch_is_the_mean_of_its_frames(scenes: Scenes) -> None:
    """With BatchNorm in evaluation mode frames do not see each other."""
    torch.manual_seed(0)
    network = PanopticFlashOcc(NANO, make_geometry(NANO, ExportOptions()).pooling)
    trainee = Trainee(network, NANO, torch.ones(18)).eval()
    frames = [as_tensors(scenes[index]) for index in range(2)]
    for frame in frames:
        frame["mask_camera"] = torch.ones_like(frame["mask_camera"])  # no voxel by chance
    with torch.no_grad():
        both = trainee(frames)
        alone = [trainee([frame]) for frame in frames]
    for name, loss in both.items():
        mean = (alone[0][name] + alone[1][name]) / 2
        assert float(loss) == pytest.approx(float(mean), rel=1e-4)  # float32, other batch sizes
    assert float(total(both)) > 0
