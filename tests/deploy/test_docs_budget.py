"""docs/mixed-precision.md works as it stands: its module is written, its commands are typed."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from calibration.samples import write_samples
from calibration.sensitivity.budget import parse_budget
from deploy.cli import run
from tests.calibration import nets
from tests.calibration.sensitivity import planted

PAGE = Path(__file__).parents[2] / "docs" / "mixed-precision.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that the page names, for a network in which one layer spoils INT8."""
    proto = planted.loud_tensor()
    nets.saved(proto, tmp_path / "m.onnx", keep_float={"head": "kept"})
    for seed, name in enumerate(("calibration", "validation", "held-out")):
        write_samples(nets.samples(proto, 6, seed=seed), tmp_path / name)
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "mine.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mine", None)
    monkeypatch.delitem(sys.modules, "mine")
    return tmp_path


def test_every_command_of_the_page_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text()
    lines = re.findall(r"^    (edgeport [^…\n]*)$", text, re.MULTILINE)
    lines += re.findall(r"`(edgeport verify [^`]*)`", text)
    assert [line.split()[1] for line in lines] == ["sensitivity", "quantize", "verify"]
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line
    assert "metric>=0.95: holds" in capsys.readouterr().out
    assert json.loads((place / "m.int8.budget.json").read_text())["holds"] is True
    assert len(list(place.glob("m.int8.search-*.json"))) == 1


def test_every_budget_of_the_page_is_read() -> None:
    table = PAGE.read_text().split("## What a budget may say")[1].split("##")[0]
    found = re.findall(r"`([^`]*[<>]=[^`]*)`", table)
    assert len(found) >= 7
    for budget in found:
        parse_budget(budget)
