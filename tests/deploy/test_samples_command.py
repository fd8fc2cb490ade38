"""``edgeport samples`` as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx.parser
import pytest

from calibration.samples import hash_samples, open_samples
from deploy import cli
from exporters.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USER
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.modelfile import save_model
from tests.calibration import nets
from tests.calibration.sample_models import camera_spec
from tests.calibration.samples.trees import kitti, photographs


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
    assert out.startswith("wrote 2 samples for flashocc-nano to ")
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


# ------------------------------------------------------------------------------- splits, sources


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """An ONNX from elsewhere that takes a picture."""
    return nets.saved_bare(nets.residual(), tmp_path / "detector.onnx").path


WANTS = ("--color", "BGR", "--resize", "letterbox", "--scale", "1/255")


def test_a_split_of_photographs(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photographs(tmp_path / "photos", 12)
    (photos / "copy.png").write_bytes((photos / "003.png").read_bytes())
    arguments = (photos, "--model", detector, *WANTS, "-o", tmp_path / "sets")
    split = ("--split", "calibration=6,validation=2,held-out=rest")
    code, out, err = words_of(*arguments, *split, "--seed", 2, capsys=capsys)
    assert code == EXIT_OK, err
    assert "6 calibration, 2 validation, 4 held-out for " in out
    assert "left out 1 whose inputs were there before: " in out
    code, out, _ = words_of(*arguments, *split, "--seed", 2, "--overwrite", "--json", capsys=capsys)
    result = json.loads(out)
    assert code == EXIT_OK
    names = [name for part in result["sets"].values() for name in part["samples"]]
    assert len(names) == len(set(names)) == 12
    assert len(result["left_out"]) == 1
    for name, part in result["sets"].items():
        assert open_samples(tmp_path / "sets" / name).sha256 == part["sha256"]
    sample = next(iter(open_samples(tmp_path / "sets" / "calibration")))
    assert sample["x"].shape == (1, 3, 32, 32)
    assert 0 <= sample["x"].min() < sample["x"].max() <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "input 'x': nobody says its color. Give --color RGB|BGR|gray"),
        (("--color", "RGB"), "nobody says its resize"),
        (
            (*WANTS, "--split", "calibration=99"),
            "the split asks for 99 samples, the source holds 3",
        ),
        ((*WANTS, "--split", "calibration"), "'calibration' is not NAME=SIZE"),
        ((*WANTS, "--input", "y"), "the model has no input 'y'"),
        ((*WANTS, "--apart-from", "z"), "--apart-from is for splits"),
        (("--describe", "none.yaml"), "cannot read none.yaml"),
    ],
)
def test_what_is_missing_is_asked_for(
    arguments: tuple[str, ...],
    words: str,
    detector: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = photographs(tmp_path / "photos", 3)
    options = ("--model", detector, "-o", tmp_path / "sets")
    code, _, err = words_of(photos, *options, *arguments, capsys=capsys)
    assert code == EXIT_USER
    assert words in err
    assert not (tmp_path / "sets").exists()


def test_synthetic_frames_for_a_split(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("synthetic", "--model", model, "-o", tmp_path / "sets", "--json")
    code, out, _ = words_of(*arguments, "--split", "calibration=2,held-out=1", capsys=capsys)
    assert code == EXIT_OK
    assert json.loads(out)["source"] == "synthetic:3:0"
    code, _, err = words_of(*arguments, "--overwrite", "--split", "a=0.5,b=rest", capsys=capsys)
    assert code == EXIT_USER
    assert "the synthetic world has no end to take a share of. Give --count" in err


def test_points_of_kitti_by_the_shape_of_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2048, 4] points) => (float[2048, 4] y) '
        "{ y = Neg(points) }"
    )
    onnx.save(graph, tmp_path / "points.onnx")
    root = kitti(tmp_path / "kitti", frames=6, mapping=True)
    options = ("--model", tmp_path / "points.onnx", "-o", tmp_path / "sets")
    split = ("--split", "calibration=2,held-out=2")
    code, out, err = words_of(root, *options, *split, capsys=capsys)
    assert code == EXIT_OK, err
    assert "2 calibration, 2 held-out from 3 scenes for " in out
    sample = next(iter(open_samples(tmp_path / "sets" / "held-out")))
    assert sample["points"].shape == (2048, 4)
    assert sample["label.boxes"].shape == (1, 7)


def test_ctrl_c_leaves_nothing(model: Path, tmp_path: Path) -> None:
    code = "import sys; from deploy.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "samples", "synthetic:400", "--model", str(model)]
    output = tmp_path / "outputs" / "sets"
    output.parent.mkdir()
    process = subprocess.Popen([*command, "-o", str(output)], stderr=subprocess.PIPE, text=True)
    while not list(output.parent.glob(".sets.*/0001-*.npz")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, err
    assert "interrupted; no half-written file was left" in err
    assert list(output.parent.iterdir()) == []
