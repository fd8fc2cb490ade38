from __future__ import annotations

import json

import pytest

from deploy import cli
from deploy.commands import doctor
from runtimes import targets


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("doctor",))
    monkeypatch.setenv("COLUMNS", "200")


def test_doctor_shows_machine_runtimes_and_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("cores", "onnxruntime", "tensorrt", "executed", "written"):
        assert word in shown
    assert "this is a" in shown
    for key in targets.load().targets:
        assert key in shown
    assert "on the device: sudo apt-get install nvidia-jetpack" in shown


def test_doctor_as_json_is_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.doctor/1"
    assert {target["target"] for target in result["targets"]} == set(targets.load().targets)
    assert set(result["standing"]) == {"machine", "target", "reason", "l4t", "jetpack"}
    ort = next(r for r in result["runtimes"] if r["runtime"] == "onnxruntime")
    assert ort["can_run"] is True
    assert ort["evidence"] == "executed"
    assert result["environment"]["versions"]["onnxruntime"] == ort["version"]


def test_a_missing_extra_comes_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(doctor._EXTRAS, "report", ("the HTML report", ("jinja2", "no-such-dist")))
    extra = next(e for e in doctor.installed_extras() if e.name == "report")
    assert extra.missing == ("no-such-dist",)
    assert "jinja2" in extra.versions
    assert extra.fix == "pip install 'edgeport[report]'"
    assert cli.run(["doctor"]) == 0
    assert "pip install 'edgeport[report]'" in capsys.readouterr().out


def test_the_extras_shown_are_the_extras_of_the_package() -> None:
    import sys
    from pathlib import Path

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(doctor._EXTRAS) == set(extras) - {"all", "dev"}
    for name, (_, packages) in doctor._EXTRAS.items():
        for package in packages:
            assert any(line.startswith(package) for line in extras[name]), package
