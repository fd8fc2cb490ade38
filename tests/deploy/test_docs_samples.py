"""docs/calibration-sets.md works as it stands: its commands are typed, in order, on tiny data."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import onnx
import pytest

from calibration.samples import open_samples
from calibration.samples.findings import CODES
from deploy.cli import run
from exporters.files import sha256_file
from tests.calibration import nets
from tests.calibration.samples.trees import kitti, nuscenes, photographs

from .conftest import Mini

PAGE = Path(__file__).parents[2] / "docs" / "calibration-sets.md"


@pytest.fixture
def place(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the page names."""
    shutil.copy(mini.fp32, tmp_path / "m0.onnx")
    nuscenes(tmp_path / "nuscenes", scenes=8, frames=5)
    photographs(tmp_path / "photos", 30)
    kitti(tmp_path / "kitti", frames=12)
    nets.saved_bare(nets.residual(), tmp_path / "detector.onnx")
    graph = "g (float[4096, 4] points) => (float[4096, 4] y) { y = Neg(points) }"
    text = f'<ir_version: 8, opset_import: ["" : 17]> {graph}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "points.onnx")
    description = re.search(r"```yaml\n# inputs\.yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert description is not None
    (tmp_path / "inputs.yaml").write_text(description[1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[list[str]]:
    return [
        shlex.split(line)[1:] for line in re.findall(r"^    (edgeport .*)$", PAGE.read_text(), re.M)
    ]


@pytest.mark.slow
def test_every_command_of_the_page_works(place: Path) -> None:
    typed = commands()
    assert len(typed) >= 8
    for command in typed:
        assert run(command) == 0, command
    sets = {name: open_samples(place / "sets" / name) for name in ("calibration", "held-out")}
    assert [len(samples) for samples in sets.values()] == [16, 8]
    scenes = [set(samples.groups) for samples in sets.values()]
    assert not scenes[0] & scenes[1]
    near = next(iter(open_samples(place / "near")))["points"]
    assert (near[:, 0] >= 0).sum() > 10
    assert ((near[:, 0] >= 0) | (near[:, 0] == -1000)).all()
    again = ["samples", "photos/", "--model", "detector.onnx", "--color", "BGR"]
    again += ["--resize", "letterbox", "--scale", "1/255", "-o", "again/"]
    again += ["--split", "calibration=16,validation=8,held-out=rest"]
    assert run(again) == 0
    first, second = (place / name / "split.json" for name in ("detector-sets", "again"))
    assert sha256_file(first) == sha256_file(second)


def test_the_page_names_every_finding() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:error|note)", PAGE.read_text(), re.MULTILINE)
    assert set(rows) == set(CODES)
