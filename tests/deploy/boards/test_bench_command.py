"""``edgeport bench --board`` from the command line to the table, over a real SSH server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deploy import cli
from deploy.boards.address import Address
from deploy.boards.connection import Access
from deploy.boards.inventory import find_boards
from exporters.errors import UserError
from tests.deploy.boards.sshd import Board
from tests.runtimes import models


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    pairs = (("fp32.onnx", models.conv()), ("int8.onnx", models.quantized_conv()))
    return [str(models.save(proto, tmp_path / name)) for name, proto in pairs]


@pytest.fixture
def inventory(board: Board, tmp_path: Path) -> Path:
    """Two names: the board, and one that is switched off."""
    path = tmp_path / "boards.yaml"
    entry = {
        "identity": str(board.folder / "user_key"),
        "known_hosts": str(board.folder / "known_hosts"),
        "cache": str(board.cache),
        "python": sys.executable,
    }
    off = Address("127.0.0.1", board.address.user, 1)
    boards = {"desk": {"address": str(board.address), **entry}, "off": {"address": str(off)}}
    path.write_text(json.dumps({"boards": boards}))
    return path


def test_one_table_of_all_boards_and_who_failed_is_named(
    files: list[str], inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--board", str(inventory), "--runtime", "onnxruntime", "--runs", "8"]
    assert cli.run(["bench", *files, *arguments]) == 3
    shown = capsys.readouterr().out
    assert "desk" in shown
    assert "int8.onnx" in shown
    assert "off: failed: cannot reach ssh://" in shown
    assert "random" in shown


def test_json_holds_every_latency(
    files: list[str], inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--board", str(inventory), "--runtime", "onnxruntime", "--runs", "8", "--json"]
    assert cli.run(["bench", *files, *arguments]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.board-bench/1"
    desk, off = result["boards"]
    assert [case["name"] for case in desk["cases"]] == ["fp32.onnx", "int8.onnx"]
    assert [len(case["latencies_ms"]) for case in desk["cases"]] == [8, 8]
    assert desk["cases"][1]["ratio_to_reference"]["value"] > 0
    assert desk["cases"][1]["percentiles"][0]["value_ms"] > 0
    assert off["error"]["fix"]
    assert off["cases"] == []


def test_an_engine_and_a_foreign_runtime_are_refused_at_once(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", files[0], "--board", "ssh://x", "--runtime", "openvino"]) == 2
    assert "boards do not run openvino" in capsys.readouterr().err


def test_boards_are_found_by_address_and_inventory(inventory: Path, board: Board) -> None:
    default = Access(cache="other")
    found = find_boards(["ssh://me@orin", str(inventory)], default)
    assert [one.name for one in found] == ["orin", "desk", "off"]
    assert found[0].access == default
    assert found[1].access.cache == str(board.cache)
    assert found[2].access.cache == "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boards: {a: {adress: 'ssh://x'}}", r"boards\.a\.adress \(line 1\) is unknown"),
        ("boards: {a: {address: 'x'}}", "'x' is no board address"),
        ("boards: {}", "boards"),
        ("boards:\n  a: {address: 'ssh://x'}\n  b: {address: 'ssh://x'}", "is given twice"),
    ],
)
def test_a_wrong_inventory_is_told_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "boards.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        find_boards([str(path)])


def test_a_path_that_is_not_there_is_no_board() -> None:
    with pytest.raises(UserError, match="neither a board's address nor an inventory"):
        find_boards(["boards.yml"])


def test_two_boards_of_one_host_keep_apart() -> None:
    found = find_boards(["ssh://orin:22", "ssh://orin:2222"])
    assert [board.name for board in found] == ["ssh://orin:22", "ssh://orin:2222"]


def test_energy_that_cannot_be_read_says_so_and_is_never_zero(
    files: list[str], board: Board, inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sampler runs on this machine's own sensors; where it has some, there are joules."""
    arguments = ["--board", str(inventory), "--runtime", "onnxruntime", "--runs", "8"]
    assert cli.run(["bench", *files, *arguments, "--energy", "2"]) == 3
    shown = capsys.readouterr().out
    assert "Energy, each file running alone" in shown
    assert "frames/s at first" in shown
    assert "energy is not readable: " in shown or "W when idle" in shown
    assert cli.run(["bench", *files, *arguments, "--energy", "2", "--json"]) == 3
    desk = json.loads(capsys.readouterr().out)["boards"][0]
    for case in desk["energy"]["cases"]:
        assert case["sustained_hz"] > 0
        assert case["frame_j"] is None or case["frame_j"]["value"] > 0
    assert desk["energy"]["reason"] or desk["energy"]["source"]
    assert desk["conditions"]["samples"] > 20
    assert desk["conditions"]["warm_up"]["rounds"] >= 3
    assert isinstance(desk["warnings"], list)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strip-weights"], "--strip-weights is for boards"),
        (["--lock-clocks"], "--lock-clocks is for boards"),
        (["--cuda-graph"], "--cuda-graph is for boards"),
        (["--until-steady", "60"], "--until-steady needs --energy"),
        (["--power-mode", "0"], "--power-mode changes the board only while its clocks are held"),
    ],
)
def test_options_without_effect_are_refused(
    files: list[str], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", files[0], *arguments]) == 2
    assert words in capsys.readouterr().err
