"""``edgeport inspect`` of engines from elsewhere, and of the layers that trtexec wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import cli
from tests.runtimes.tensorrt import engine_layers


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("inspect",))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    path.write_bytes(bytes(24) + bytes((10, 3, 0)) + bytes(100))
    (tmp_path / "layers.json").write_text(json.dumps(engine_layers.LAYERS))
    (tmp_path / "profile.json").write_text(json.dumps(engine_layers.profile()))
    return path


def test_an_engine_from_elsewhere(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["inspect", str(engine)]) == 0
    said = capsys.readouterr().out
    assert "without a passport: built by TensorRT 10.3.0" in said
    assert "its GPU, its model and its types are unknown" in said


def test_the_audit_of_its_layers(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers, profile = engine.with_name("layers.json"), engine.with_name("profile.json")
    arguments = ["inspect", str(engine), "--layers", str(layers), "--profile", str(profile)]
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    assert "9 layers, 3.750 ms in one run" in said
    assert "--keep-float conv3 --keep-float relu_conv3" in said
    assert cli.run([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passport"]["tensorrt"] == "10.3.0"
    assert result["layers"]["schema"] == "edgeport.layers/1"
    assert [island["pays"] for island in result["layers"]["islands"]] == [None, False]


def test_a_profile_needs_layers(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = engine.with_name("profile.json")
    assert cli.run(["inspect", str(engine), "--profile", str(profile)]) == 2
    assert "Add --layers FILE" in capsys.readouterr().err
