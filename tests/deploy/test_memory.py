"""A network with a memory through the commands: drives in, a bundle that judged a stream out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import cli, load_recipe, run
from exporters.modelfile import ModelFile
from exporters.panoptic_flashocc import export
from tests.exporters.panoptic_flashocc.nets import OPTIONS, random_network, remembering, saved

RECIPE = """
title: A memory of one frame
model: {file: m.onnx}
samples: {calibration: "synthetic:1x3:1", evaluation: "synthetic:1x3:2"}
quantization: {scales: minmax, policies: [onnxruntime]}
benchmark: null
verify: {metric: "miou,raypq", layers: true, scenes: 3}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    weights = saved(random_network(remembering(1)), folder)
    return export("panoptic-flashocc", folder / "m.onnx", checkpoint=weights, **OPTIONS).model.path


def test_run_judges_a_stream(model: Path) -> None:
    (model.parent / "recipe.yaml").write_text(RECIPE)
    bundle = run(load_recipe(model.parent / "recipe.yaml"), model.parent / "bundle")
    sets = {one["role"]: one for one in bundle.report["samples"]["sets"]}
    assert (sets["evaluation"]["samples"], sets["evaluation"]["scenes"]) == (3, 1)
    record = bundle.path / "stages" / "verify-int8-onnxruntime.json"
    assert any("that it left itself" in note for note in json.loads(record.read_text())["notes"])
    assert len(bundle.report["occupancy"]) == 3
    rows = {row["stage"]: row for row in bundle.report["waterfall"] if not row["missing"]}
    emulated = rows["int8-onnxruntime: Q/DQ emulated"]
    before = rows[emulated["after"]]
    assert emulated["metric"] == "miou"
    for here, there in zip([emulated, *emulated["also"]], [before, *before["also"]], strict=True):
        assert here["loss"] == pytest.approx(there["value"] - here["value"], abs=1e-9)
    assert [one["metric"] for one in emulated["also"]] == ["raypq"]  # not those of one distance
    assert "RayPQ" in (bundle.path / "report.html").read_text()


def test_statistics_know_the_drive_again(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("quantize",))
    arguments = ["quantize", str(model), "--samples", "synthetic:1x3:1", "--scales", "minmax"]
    kept = model.with_name("seen.npz")
    made = []
    for name in ("one", "two"):
        output = model.with_name(f"{name}.onnx")
        options = ["--statistics", str(kept), "--policy", "onnxruntime", "--json"]
        assert cli.run([*arguments, *options, "-o", str(output)]) == 0
        made.append(json.loads(capsys.readouterr().out)["sha256"])
    assert made[0] == made[1]
    quantization = ModelFile(model.with_name("one.onnx")).quantization
    assert quantization is not None
    assert quantization["samples"]["count"] == 3


def test_processes_cannot_share_a_stream(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("verify",))
    samples = ["--samples", "synthetic:1x3:2", "--jobs", "2"]
    assert cli.run(["verify", str(model), str(model), *samples]) == 2
    assert "remembers, so its samples are run in order" in capsys.readouterr().err
