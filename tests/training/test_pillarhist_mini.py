"""Training of the twins on two turns: losses fall, runs go on, and weights can be exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from exporters import export
from exporters.pillarhist.config import CONFIGS
from training.clouds import Clouds
from training.loop import Place, Schedule
from training.pillarhist_mini import VARIANTS, Run, write_weights

PLAN = Schedule(seed=3, frames=2, steps=4, batch=2, rate=3e-3, warm_up=1, average=0.5)
PLACE = Place(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def clouds(work: Path) -> Clouds:
    made = Clouds(work / "cache", CONFIGS[VARIANTS[0]].classes, PLAN.seed, PLAN.frames)
    made.scan()
    return made


def test_twins_differ_in_nothing_but_the_encoder() -> None:
    first, second = (CONFIGS[name] for name in VARIANTS)
    assert dataclasses.replace(first, encoder=second.encoder) == second
    assert first.encoder.width == second.encoder.width


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_fall(clouds: Clouds, tmp_path: Path, variant: str) -> None:
    run = Run(variant, dataclasses.replace(PLAN, steps=24), PLACE, clouds, tmp_path)
    run.loop.train(every=4)
    first, last = run.loop.history[0], run.loop.history[-1]
    assert last["step"] == 24
    for name in ("heat", "boxes"):
        assert last[name] < 0.8 * first[name]


def test_an_interrupted_run_goes_on_and_its_weights_are_exported(
    clouds: Clouds, tmp_path: Path
) -> None:
    half = Run(VARIANTS[0], dataclasses.replace(PLAN, steps=2), PLACE, clouds, tmp_path)
    half.loop.train(every=2)
    rest = Run(VARIANTS[0], PLAN, PLACE, clouds, tmp_path)
    rest.loop.resume()
    assert rest.loop.step == 2
    for name, value in half.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name])
    rest.loop.train(every=2)
    assert [line["step"] for line in rest.loop.history] == [2, 4]
    write_weights(rest, tmp_path / "w.safetensors")
    result = export(VARIANTS[0], tmp_path / "m.onnx", checkpoint=tmp_path / "w.safetensors")
    assert "checkpoint" in result.report["weights"]


def test_twins_learn_from_the_same_turns(clouds: Clouds, tmp_path: Path) -> None:
    batches = [Run(name, PLAN, PLACE, clouds, tmp_path).read(range(2, 4)) for name in VARIANTS]
    for name in ("heat", "cells", "values"):
        assert torch.equal(batches[0][name], batches[1][name])
    assert set(batches[0]["pillars"].tolist()) == set(batches[1]["pillars"].tolist())
