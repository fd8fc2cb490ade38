"""A recipe's board is the waterfall's last stage; without one that stage has no evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from deploy import run
from deploy.bundle import Bundle
from deploy.recipe import Recipe, load_recipe
from deploy.waterfall import NO_BOARD
from exporters.errors import UserError
from tests.deploy.boards.sshd import Board
from tests.deploy.conftest import Mini


def content(mini: Mini, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"file": str(mini.fp32)},
        "samples": {"calibration": str(mini.calibration), "evaluation": str(mini.evaluation)},
        "quantization": {"scales": "minmax", "policies": ["onnxruntime"]},
        "benchmark": None,
        "verify": {"scenes": 0, "layers": False},
        **changes,
    }


def made(mini: Mini, folder: Path, **changes: Any) -> Bundle:
    return run(Recipe.model_validate(content(mini, **changes)), folder / "bundle")


@pytest.fixture
def inventory(board: Board, tmp_path: Path) -> Path:
    access = board.access()
    entry = {
        "address": str(board.address),
        "identity": str(access.identity),
        "known_hosts": str(access.known_hosts),
        "python": access.python,
        "cache": access.cache,
    }
    path = tmp_path / "desk.yaml"
    path.write_text(yaml.safe_dump({"boards": {"desk": entry}}))
    return path


def test_the_last_stage_comes_from_the_board(mini: Mini, inventory: Path, tmp_path: Path) -> None:
    part = {"board": str(inventory), "from": "int8-onnxruntime", "runtime": "onnxruntime"}
    report = made(mini, tmp_path, boards=[part]).report
    stages = {row["stage"]: row for row in report["waterfall"]}
    there = stages["int8-onnxruntime on desk"]
    assert (there["owner"], there["missing"]) == ("board's runtime", "")
    assert there["after"] == "int8-onnxruntime: Q/DQ emulated"
    summaries = [entry["summary"] for entry in report["agreement"]]
    assert summaries[0] == summaries[1], "the same runtime gives the same labels"
    assert there["value"] == summaries[1]["agreement"]
    names = [entry["name"] for entry in report["agreement"]]
    assert names[-1] == "int8-onnxruntime on desk against fp32"
    page = (tmp_path / "bundle" / "report.html").read_text()
    assert "on desk<span" in page


def test_without_a_board_the_last_stage_has_no_evidence(mini: Mini, tmp_path: Path) -> None:
    report = made(mini, tmp_path).report
    last = report["waterfall"][-1]
    assert (last["stage"], last["value"], last["missing"]) == ("board", None, NO_BOARD)
    page = (tmp_path / "bundle" / "report.html").read_text()
    assert f"no evidence: {NO_BOARD}" in page


def test_a_board_that_is_off_leaves_no_evidence_and_fails_where_it_is_required(
    mini: Mini, tmp_path: Path
) -> None:
    part = {"board": "ssh://nobody@127.0.0.1:1", "from": "fp32"}
    report = made(mini, tmp_path, boards=[part]).report
    last = report["waterfall"][-1]
    assert "cannot reach ssh://nobody@127.0.0.1:1" in last["missing"]
    assert report["verdict"]["status"] != "no evidence"
    (tmp_path / "again").mkdir()
    required = made(mini, tmp_path / "again", boards=[{**part, "required": True}]).report
    assert required["verdict"]["status"] == "no evidence"
    check = required["verdict"]["checks"][-1]
    assert check["name"] == "fp32 on 127.0.0.1"
    assert "cannot reach" in check["note"]


def test_a_board_of_an_unknown_file_is_refused(mini: Mini, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    part = {"board": "ssh://a@b", "from": "int8-onxruntime"}
    path.write_text(yaml.safe_dump(content(mini, boards=[part])))
    with pytest.raises(UserError, match="int8-onxruntime") as error:
        load_recipe(path)
    assert "int8-onnxruntime" in str(error.value)


def test_a_board_without_verify_is_refused(mini: Mini) -> None:
    part = {"board": "ssh://a@b", "from": "fp32"}
    with pytest.raises(ValidationError, match="boards compare with FP32"):
        Recipe.model_validate(content(mini, boards=[part], verify=None))
