"""``edgeport verify --board``: a candidate that runs behind an SSH server, judged here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.samples.base import InMemorySamples
from deploy import cli
from deploy.boards.inventory import Board as Named
from deploy.boards.outputs import SamplesOnBoard
from deploy.verification import verify
from exporters.errors import UserError
from tests.deploy.boards.sshd import Board
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(5)]


@pytest.fixture
def named(board: Board) -> Named:
    return Named("desk", board.address, board.access())


@pytest.mark.oracle
def test_the_board_gives_what_this_machine_gives(named: Named, tmp_path: Path) -> None:
    reference = models.save(models.conv(), tmp_path / "fp32.onnx")
    candidate = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    samples = InMemorySamples(FEEDS)
    here = verify(reference, candidate, samples)
    there = verify(reference, candidate, samples, board=named, board_runtime="onnxruntime")
    assert here.outputs == there.outputs
    assert len(there.samples) == 5
    assert any("the candidate ran on desk" in note for note in there.notes)
    assert any("onnxruntime" in note for note in there.notes)


def test_samples_travel_in_batches_and_keep_their_order(named: Named, tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    session = SamplesOnBoard(named, model, InMemorySamples(FEEDS), runtime="onnxruntime", batch=2)
    found = [session.run(feeds)["y"] for feeds in FEEDS]
    session.close()
    from runtimes.ort import cpu

    here = cpu().load(model, threads=1)
    for feeds, output in zip(FEEDS, found, strict=True):
        np.testing.assert_allclose(output, here.run(feeds)["y"], rtol=0, atol=1e-5)


def test_the_command_compares_a_file_with_itself_on_the_board(
    board: Board,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    np.savez(tmp_path / "sample.npz", **FEEDS[0])
    inventory = tmp_path / "boards.yaml"
    entry = {
        "address": str(board.address),
        "identity": str(board.folder / "user_key"),
        "known_hosts": str(board.folder / "known_hosts"),
        "cache": str(board.cache),
        "python": sys.executable,
    }
    inventory.write_text(json.dumps({"boards": {"desk": entry}}))
    arguments = ["verify", str(model), "--samples", str(tmp_path / "sample.npz"), "--json"]
    there = ["--board", str(inventory), "--board-runtime", "onnxruntime"]
    assert cli.run([*arguments, *there]) == 0
    result = json.loads(capsys.readouterr().out)
    assert any("ran on desk" in note for note in result["notes"])
    assert cli.run(arguments) == 2
    assert "nothing to judge" in capsys.readouterr().err


def test_an_engine_is_not_sent(named: Named, tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    (tmp_path / "m.engine").write_bytes(b"x")
    with pytest.raises(UserError, match="a board builds its own"):
        verify(model, tmp_path / "m.engine", InMemorySamples(FEEDS[:1]), board=named)
