"""``edgeport samples`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx.parser
import pytest

from calibration.samples import hash_samples, open_samples
from deploy import cli
from exporters.errors import EXIT_OK, EXIT_USER
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.modelfile import save_model
from tests.calibration.sample_models import camera_spec


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("samples", "models"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file that says it takes six cameras; its graph is never run."""
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1] x) => (float[1] y) {y = Neg(x)}'
    )
    path = tmp_path / "model.onnx"
    save_model(graph, path, spec=camera_spec(nuscenes_like_rig()))
    return path


def words_of(*argv: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.run(["samples", *(str(item) for item in argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_synthetic_samples(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    arguments = ("synthetic", "--count", 2, "--seed", 3, "--model", model, "-o", folder)
    code, out, err = words_of(*arguments, capsys=capsys)
    assert code == EXIT_OK
    assert out.startswith("wrote 2 samples for flashocc-mini to ")
    assert "note:" not in out
    assert "samples 2/2" in err
    spec = camera_spec(nuscenes_like_rig())
    assert hash_samples(open_samples(folder, spec)) == hash_samples(
        open_samples("synthetic:2:3", spec)
    )

    code, _, err = words_of(*arguments, capsys=capsys)
    assert code == EXIT_USER
    assert "set exists already. Choose another -o, or pass --overwrite" in err
    code, out, _ = words_of(*arguments, "--overwrite", "--json", capsys=capsys)
    result = json.loads(out)
    assert code == EXIT_OK
    assert result["samples"] == ["synthetic-3-0000", "synthetic-3-0001"]
    assert result["sha256"] == open_samples(folder, spec).sha256
    assert result["rig_mismatch"] < 0.01


def test_a_choice_from_a_set(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words_of("synthetic:3", "--model", model, "-o", tmp_path / "all", capsys=capsys)
    arguments = (tmp_path / "all", "--model", model, "-o", tmp_path / "some", "--json")
    code, out, _ = words_of(*arguments, "--count", 2, "--seed", 1, capsys=capsys)
    assert code == EXIT_OK
    assert len(json.loads(out)["samples"]) == 2
    code, _, err = words_of(*arguments, "--count", 9, "--overwrite", capsys=capsys)
    assert code == EXIT_USER
    assert "9 samples were asked for, the source holds 3" in err


def test_sources_and_models_that_do_not_exist(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = words_of("nowhere", "--model", model, "-o", tmp_path / "set", capsys=capsys)
    assert code == EXIT_USER
    assert "no samples at nowhere" in err
    missing = tmp_path / "missing.onnx"
    code, _, err = words_of("synthetic", "--model", missing, "-o", tmp_path / "set", capsys=capsys)
    assert code == EXIT_USER
    assert "no model file at" in err
    assert not (tmp_path / "set").exists()


@pytest.mark.data
def test_frames_of_another_rig_are_pointed_out(
    model: Path, tmp_path: Path, edgeport_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = edgeport_data / "nuscenes"
    code, out, _ = words_of(source, "--model", model, "-o", tmp_path / "set", capsys=capsys)
    assert code == EXIT_OK
    assert "note: the model has another rig baked in; 24% of the points" in out
    assert "--rig input" in out
