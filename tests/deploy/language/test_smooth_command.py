"""``edgeport smooth`` from the command line, and what export makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import run
from exporters.illm.sample_text import sample_text

QUICK = ["--bits", "W4A8", "--epochs", "1", "--pieces", "3", "--tokens", "32"]


def test_factors_go_from_command_to_command(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(files["integer"].parent / "checkpoint")
    text, factors = tmp_path / "prose.txt", str(tmp_path / "f.safetensors")
    text.write_text(sample_text(), encoding="utf-8")
    smooth = ["smooth", checkpoint, "--text", str(text), "-o", factors, *QUICK]
    assert run([*smooth, "--layers", "1"]) == 0
    captured = capsys.readouterr()
    assert "layer 0: loss" in captured.err
    assert "1 layers for W4A8" in captured.out
    assert run([*smooth, "--json"]) == 0
    log = json.loads(capsys.readouterr().out)
    assert [entry["layer"] for entry in log["layers"]] == [0, 1]
    assert log["plan"]["seed"] == 0
    export = ["export", "illm", "--checkpoint", checkpoint, "--factors", factors]
    assert run([*export, "--bits", "W4A8", "-o", str(tmp_path / "m.onnx")]) == 0
    assert "learned smoothing in 2 of 2 layers" in capsys.readouterr().out


def test_what_does_not_fit_is_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(files["integer"].parent / "checkpoint")
    base = ["smooth", checkpoint, "-o", str(tmp_path / "f.st"), "--text"]
    for options, words in (
        (["nowhere.txt"], "cannot read calibration text from nowhere.txt"),
        (["nowhere.txt", "--without", "keys"], "unknown smoothing pair 'keys'. Did you mean 'key'"),
        (["nowhere.txt", "--bits", "4"], "--bits is '4'"),
    ):
        assert run([*base, *options]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
