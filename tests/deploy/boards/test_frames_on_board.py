"""Whole frames on a board behind a real SSH server: packed here, prepared and timed there."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.boards.bundling import own_code
from deploy.boards.endtoend import frames_on_boards
from deploy.boards.inventory import find_boards
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.onboard.frames import unpacked
from deploy.boards.packing import frame_plan
from deploy.endtoend.benching import Question
from deploy.endtoend.frames import pack_frames
from exporters.errors import UserError
from exporters.files import sha256_bytes
from exporters.modelfile import ModelFile
from runtimes.timing import Plan
from tests.deploy.boards.sshd import Board
from tests.deploy.conftest import Mini
from tests.runtimes import models

DESCRIPTION = """
inputs:
  - {name: x, kind: image, layout: NCHW, color: gray, size: [16, 16], resize: stretch, scale: 1/255}
"""
PLAN = Plan(warmup=1, min_runs=6, min_seconds=0.0, max_runs=6)


@pytest.fixture
def inventory(board: Board, tmp_path: Path) -> Path:
    path = tmp_path / "boards.yaml"
    entry = {
        "address": str(board.address),
        "identity": str(board.folder / "user_key"),
        "known_hosts": str(board.folder / "known_hosts"),
        "cache": str(board.cache),
        "python": sys.executable,
    }
    path.write_text(json.dumps({"boards": {"desk": entry}}))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.jpg")
    return folder


def test_surround_cameras_step_by_step(
    mini: Mini, inventory: Path, board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(mini.fp32), str(mini.int8), "--end-to-end", "--samples", "synthetic:1"]
    on_board = ["--board", str(inventory), "--runtime", "onnxruntime"]
    quick = ["--runs", "6", "--warmup", "1", "--json"]
    assert cli.run(["bench", *arguments, *on_board, *quick]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.board-end-to-end/1"
    (desk,) = result["boards"]
    assert [case["name"] for case in desk["cases"]] == ["fp32.onnx", "int8-onnxruntime.onnx"]
    for case in desk["cases"]:
        steps = case["steps"]
        assert list(steps) == ["decode", "resize", "copies", "engine", "post-processing"]
        assert len(case["frame"]["latencies_ms"]) == 6
        for index, total in enumerate(case["frame"]["latencies_ms"]):
            parts = sum(step["latencies_ms"][index] for step in steps.values())
            assert math.isclose(parts, total, rel_tol=1e-9), "a frame is the sum of its steps"
    assert desk["cases"][1]["ratio_to_reference"]["value"] > 0
    assert not any("become other inputs" in warning for warning in desk["warnings"])
    assert list((board.cache / "jobs").iterdir()) == []


def test_pictures_a_description_a_function_and_joules(
    photos: Path,
    inventory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = models.save(models.conv(channels=1), tmp_path / "foreign.onnx")
    describe = tmp_path / "inputs.yaml"
    describe.write_text(DESCRIPTION)
    (tmp_path / "board_post.py").write_text("def total(outputs):\n    return outputs['y'].sum()\n")
    monkeypatch.chdir(tmp_path)
    arguments = [str(model), "--end-to-end", "--samples", str(photos), "--describe", str(describe)]
    on_board = ["--board", str(inventory), "--runtime", "onnxruntime", "--energy", "1"]
    assert (
        cli.run(["bench", *arguments, *on_board, "--post", "board_post:total", "--runs", "6"]) == 0
    )
    shown = capsys.readouterr().out
    assert "From picture to answer on the board" in shown
    assert "Energy of whole frames" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert {"decode", "resize", "engine"} <= {word for row in rows for word in row}
    assert "nobody" not in shown


def test_inputs_that_become_others_there_are_told(
    photos: Path, inventory: Path, tmp_path: Path
) -> None:
    """The board finds out by hash; here the host lies about the second frame."""
    model = models.save(models.conv(channels=1), tmp_path / "foreign.onnx")
    describe = tmp_path / "inputs.yaml"
    describe.write_text(DESCRIPTION)
    plan = frame_plan([model], Question(str(photos), describe))
    assert plan.count == 3
    plan.digests[0][1] = "0" * 64  # type: ignore[index]
    job = Job([BoardCase("m", model, "onnxruntime")], [], PLAN, frames=plan)
    (result,) = frames_on_boards(find_boards([str(inventory)]), job)
    assert result.error is None
    assert any("m: frames [1] become other inputs on the board" in w for w in result.warnings)


def test_a_board_without_pillow_is_told_what_to_install(
    photos: Path, inventory: Path, tmp_path: Path, board: Board
) -> None:
    model = models.save(models.conv(channels=1), tmp_path / "foreign.onnx")
    describe = tmp_path / "inputs.yaml"
    describe.write_text(DESCRIPTION)
    plan = frame_plan([model], Question(str(photos), describe))
    job = Job([BoardCase("m", model, "onnxruntime")], [], PLAN, frames=plan)
    hiding = tmp_path / "hiding"
    (hiding / "PIL").mkdir(parents=True)
    (hiding / "PIL" / "__init__.py").write_text("raise ImportError('No module named PIL')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={hiding} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    entry = json.loads(inventory.read_text())
    entry["boards"]["desk"]["python"] = str(python)
    inventory.write_text(json.dumps(entry))
    (result,) = frames_on_boards(find_boards([str(inventory)]), job)
    assert result.error is not None
    assert "pillow" in f"{result.error.message} {result.error.fix}".lower()


def test_what_is_sent_is_opened_like_the_source(
    mini: Mini, tmp_path: Path, edgeport_data: Path
) -> None:
    """Of a nuScenes root sample folders, whole roots of points, and pictures as they are."""
    spec = ModelFile(mini.fp32).spec
    assert spec is not None
    folder = tmp_path / "frames"
    folder.mkdir()
    assert pack_frames(str(edgeport_data / "nuscenes"), spec, folder, 1) == 1
    assert len(list(folder.glob("*/sample.json"))) == 1
    assert len(list(folder.glob("*/*.jpg"))) == 6


def test_a_function_inside_a_package_cannot_be_sent(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys").mkdir()
    (tmp_path / "somebodys" / "__init__.py").write_text("def total(outputs):\n    return 0\n")
    monkeypatch.chdir(tmp_path)
    model = models.save(models.conv(channels=1), tmp_path / "foreign.onnx")
    describe = tmp_path / "inputs.yaml"
    describe.write_text(DESCRIPTION)
    with pytest.raises(UserError, match="is part of a package"):
        frame_plan([model], Question(str(photos), describe, "somebodys:total"))


def test_the_code_that_travels_is_small_and_whole(tmp_path: Path) -> None:
    code = own_code()
    assert len(code) < 2 << 20
    archive = tmp_path / f"{sha256_bytes(code)}.zip"
    archive.write_bytes(code)
    folder = Path(unpacked(str(archive), str(tmp_path / "unpacked")))
    assert (folder / "deploy" / "endtoend" / "preparing.py").is_file()
    assert not list(folder.rglob("*.npz"))
    assert unpacked(str(archive), str(tmp_path / "unpacked")) == str(folder)
