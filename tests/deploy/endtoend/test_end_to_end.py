"""Whole frames through real files: pictures on disk, Pillow, ONNX Runtime."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.endtoend.benching import Question, bench_end_to_end
from exporters import export
from runtimes.benchmark import Case
from runtimes.timing import Plan
from tests.deploy.conftest import Mini, Refused
from tests.exporters.panoptic_flashocc.nets import OPTIONS, random_network, remembering, saved
from tests.runtimes import models

DESCRIPTION = """
inputs:
  - {name: x, kind: image, layout: NCHW, color: gray, size: [16, 16], resize: stretch, scale: 1/255}
"""
QUICK = ("--runs", "6", "--warmup", "1", "--json")


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("bench",))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.jpg")
    return folder


def steps_of(case: dict[str, object]) -> list[str]:
    steps = case["steps"]
    assert isinstance(steps, dict)
    return list(steps)


def test_a_surround_camera_model_from_the_synthetic_world(
    mini: Mini, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(mini.fp32), str(mini.int8), "--end-to-end", "--samples", "synthetic:1"]
    assert cli.run(["bench", *arguments, *QUICK]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.end-to-end/1"
    assert [case["name"] for case in result["cases"]] == ["fp32.onnx", "int8-onnxruntime.onnx"]
    for case in result["cases"]:
        assert steps_of(case) == ["decode", "resize", "copies", "engine", "post-processing"]
        assert case["pictures"] == 1
        steps = case["steps"].values()
        assert math.isclose(sum(step["share"] for step in steps), 1.0, rel_tol=1e-9)
        for index, total in enumerate(case["frame"]["latencies_ms"]):
            parts = sum(step["latencies_ms"][index] for step in steps)
            assert math.isclose(parts, total, rel_tol=1e-9), "a frame is the sum of its steps"
    assert result["cases"][0]["ratio_to_reference"] is None
    assert result["cases"][1]["ratio_to_reference"]["value"] > 0


@pytest.mark.data
def test_a_model_that_takes_its_rig_has_tables_to_make(
    mini: Mini, tmp_path: Path, edgeport_data: Path
) -> None:
    path = export("flashocc-nano", tmp_path / "rig.onnx", rig="input").model.path
    plan = Plan(warmup=0, min_runs=2, min_seconds=0.0, max_runs=2)
    question = Question(str(edgeport_data / "nuscenes"))
    cases = [Case("tables", path, ()), Case("baked", mini.fp32, ())]
    tables, baked = bench_end_to_end(cases, question, plan).cases
    assert "tables" in tables.steps
    assert "tables" not in baked.steps
    assert min(tables.steps["tables"].latencies_ms) > 0
    assert tables.pictures == 2, "both samples of the data folder"


def test_a_model_that_remembers_keeps_its_states(tmp_path: Path) -> None:
    weights = saved(random_network(remembering(1)), tmp_path)
    path = export(
        "panoptic-flashocc", tmp_path / "m.onnx", checkpoint=weights, **OPTIONS
    ).model.path
    plan = Plan(warmup=0, min_runs=2, min_seconds=0.0, max_runs=2)
    (case,) = bench_end_to_end([Case("memory", path, ())], Question("synthetic:1x1"), plan).cases
    assert min(case.steps["engine"].latencies_ms) > 0


def test_a_model_from_elsewhere_with_a_description_and_a_function(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = models.save(models.conv(channels=1), tmp_path / "foreign.onnx")
    describe = tmp_path / "inputs.yaml"
    describe.write_text(DESCRIPTION)
    (tmp_path / "own_post.py").write_text("def total(outputs):\n    return outputs['y'].sum()\n")
    monkeypatch.chdir(tmp_path)
    arguments = [str(model), "--end-to-end", "--samples", str(photos), "--describe", str(describe)]
    assert cli.run(["bench", *arguments, "--post", "own_post:total", *QUICK]) == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert steps_of(case) == ["decode", "resize", "copies", "engine", "post-processing"]
    assert case["pictures"] == 3
    assert cli.run(["bench", *arguments, "--runs", "6"]) == 0
    shown = capsys.readouterr().out
    assert "no post-processing: the model does not say what its outputs are" in shown
    assert "6 frames each, interleaved, from 3 of the source" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("decode", "resize", "engine")]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ((), "--end-to-end needs pictures to start from"),
        (("--samples", "{evaluation}"), "holds arrays that are ready for the network"),
        (("--samples", "synthetic:0"), "names no synthetic samples"),
        (("--samples", "synthetic:1", "--loadgen", "offline"), "--loadgen was given, but"),
        (("--samples", "synthetic:1", "--cuda-graph"), "--cuda-graph is for boards"),
        (("--samples", "synthetic:1", "--energy", "2"), "--energy was given, but"),
        (("--samples", "synthetic:1", "--post", "no_such_module:f"), "there is no such module"),
    ],
)
def test_what_cannot_be_measured_is_said(
    mini: Mini, refused: Refused, extra: tuple[str, ...], words: str
) -> None:
    given = [item.format(evaluation=mini.evaluation) for item in extra]
    assert words in refused(2, "bench", mini.fp32, "--end-to-end", "--runs", "2", *given)


def test_options_of_pictures_without_pictures_are_refused(mini: Mini, refused: Refused) -> None:
    line = refused(2, "bench", mini.fp32, "--post", "a:b")
    assert "--post was given, but only --end-to-end prepares pictures" in line


def test_an_engine_alone_does_not_say_how_pictures_become_inputs(
    tmp_path: Path, refused: Refused
) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"")
    line = refused(2, "bench", engine, "--end-to-end", "--samples", "synthetic:1")
    assert "Name the model file it was built from too" in line
