"""``edgeport export illm`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import run
from exporters.modelfile import ModelFile


def test_the_command_writes_a_model_and_says_what(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(files["integer"].parent / "checkpoint")
    path = tmp_path / "m.onnx"
    base = ["export", "illm", "--checkpoint", checkpoint, "-o", str(path)]
    assert run([*base, "--bits", "W4A8", "--context", "64"]) == 0
    says = "integer-only W4A8, rotated basis, rounded by GPTQ; built-in English text; context 64"
    assert says in " ".join(capsys.readouterr().out.split())
    spec = ModelFile(path).require_spec()
    assert spec.geometry["context"] == 64
    assert run([*base, "--overwrite", "--precision", "float", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "float32"


def test_what_does_not_fit_is_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(files["integer"].parent / "checkpoint")
    base = ["export", "illm", "-o", str(tmp_path / "m.onnx")]
    for options, words in (
        ([], "illm needs a checkpoint"),
        (["--checkpoint", "nowhere"], "no checkpoint at nowhere"),
        (["--checkpoint", checkpoint, "--bits", "W3A8"], "--bits is 'W3A8'"),
        (["--checkpoint", checkpoint, "--rig", "input"], "unknown export option 'rig'"),
    ):
        assert run([*base, *options]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
