"""docs/contract.md works as it stands: its file is written, its commands are typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from deploy import run as run_recipe
from deploy.boards.address import Address
from deploy.boards.benching import BoardBench, BoardTiming
from deploy.boards.energy import CaseEnergy, EnergyReport
from deploy.cli import run
from deploy.console import dump_json
from deploy.contract.contracts import load_contract
from deploy.contract.terms import parse_term
from runtimes.timing import Interval, Timing

from .conftest import Mini
from .test_pipeline import recipe_for

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def board_json() -> str:
    """What bench --board --energy --json writes for one file on one board."""
    timing = Timing(tuple(10.0 + 0.001 * index for index in range(400)))
    case = BoardTiming(
        "int8-tensorrt.onnx",
        "tensorrt",
        timing,
        {},
        Interval(2.0, 1.9, 2.1),
        0.1,
        4_000_000,
        {},
        {"sha256": "0", "build_s": 1.0},
    )
    frame = Interval(0.4, 0.39, 0.41)
    energy = EnergyReport((CaseEnergy(300, 30.0, 10.0, 10.0, True, frame, frame),), "INA3221")
    board = BoardBench("orin", Address.parse("ssh://nvidia@orin"), cases=(case,), energy=energy)
    return dump_json({"schema": "edgeport.board-bench/1", "boards": [board.to_json()]})


@pytest.fixture
def place(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = recipe_for(mini, quantization={"scales": "minmax"})
    run_recipe(recipe, tmp_path / "demo-bundle")
    contract = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert contract is not None
    (tmp_path / "contract.yaml").write_text(contract[1])
    (tmp_path / "board.json").write_text(board_json())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^    (edgeport [^#\n]*)", PAGE.read_text(), re.MULTILINE)
    here = [line for line in lines if "ssh://" not in line]  # board.json stands for that one
    assert len(here) == len(lines) - 1 == 11
    said = {}
    for line in here:
        arguments = shlex.split(line)[1:]
        # a contract that two samples and random weights cannot show: 1, and never anything else
        expected = 1 if arguments[:2] == ["judge", "demo-bundle"] and "board" not in line else 0
        if "--github-summary" in line:
            arguments += ["--require", "agreement>=0.01"]
            expected = 0
        if arguments[0] == "judge":
            capsys.readouterr()
        found = run(arguments)
        said[line] = capsys.readouterr().out
        assert found == expected, (line, said[line])
    assert (place / "junit.xml").is_file()
    assert "no evidence" in (place / "verdict.md").read_text()
    assert "✅ pass" in (place / "summary.md").read_text()
    board = next(text for line, text in said.items() if "board.json" in line)
    assert "int8-tensorrt: energy of a frame 0.4 [0.39, 0.41] <= 0.5 J: ok" in board
    assert "int8-tensorrt: p99 10.39 [10.39, 10.4] <= 40 ms: ok" in board
    plan = next(text for line, text in said.items() if "plan demo-bundle" in line)
    assert "agreement" in plan


def test_the_verdict_of_a_bundle_is_that_of_its_recipe(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["judge", "demo-bundle"]) == 2
    assert "there is no term to judge by" in capsys.readouterr().err
    assert run(["judge", "demo-bundle", "--require", "model_mb<=100", "--json"]) == 0
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in verdict["checks"]]
    assert "int8-onnxruntime: values that are not finite" in names, "what always has to hold"
    assert "int8-tensorrt: model file" in names
    assert run(["judge", "board.json", "--preset", "mlperf-99"]) == 1
    assert "no evidence (it was not compared with FP32)" in capsys.readouterr().out
    (place / "x.json").write_text('{"schema": "edgeport.plan/1"}')
    assert run(["judge", "x.json", "--require", "p99_ms<=3"]) == 2
    assert "holds no evidence: its schema is 'edgeport.plan/1'" in capsys.readouterr().err


def test_every_term_of_the_page_is_read() -> None:
    table = PAGE.read_text().split("## Terms")[1].split("## Evidence")[0]
    found = re.findall(r"`([^`]*[<>]=[^`|]*)`", table)
    assert len(found) >= 12
    for term in found:
        parse_term(term)


def test_the_contract_of_the_page_is_read(tmp_path: Path) -> None:
    for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / "c.yaml").write_text(text)
        assert load_contract(tmp_path / "c.yaml").terms
