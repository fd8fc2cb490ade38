"""Boards whose TensorRT is a command line: what trtexec is asked, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.boards.benching import timings_of
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.onboard import trtexec
from deploy.boards.onboard.journal import BoardError
from deploy.boards.onboard.probing import trtexec_version
from deploy.boards.running import run_on_board
from runtimes.ort import cpu
from runtimes.timing import Plan
from tests.deploy.boards import trtexec_program
from tests.deploy.boards.sshd import Board
from tests.runtimes import models

FEEDS = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(2)]
SHAPES = {"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}
VERSIONS = {"8502": (8, 5, 2), "100300": (10, 3, 0), "110100": (11, 1, 0)}


@pytest.mark.parametrize(("number", "version"), VERSIONS.items())
def test_the_version_is_read_from_the_banner(
    tmp_path: Path, number: str, version: tuple[int, ...]
) -> None:
    assert trtexec_version(str(trtexec_program.install(tmp_path, number))) == version


def test_a_program_without_a_banner_has_no_version() -> None:
    assert trtexec_version("/bin/true") == ()


def test_wishes_in_trtexecs_words() -> None:
    options = {
        "shapes": {**SHAPES, "s": {"min": [1], "opt": [2], "max": [3]}},
        "timing_cache": "t.cache",
        "strict_timing_cache": True,
        "optimization_level": 3,
        "workspace_mib": 512,
    }
    command = trtexec.build_command("trtexec", (10, 3, 0), "m.onnx", "m.engine", options)
    for argument in (
        "--minShapes=x:1x8,s:1",
        "--optShapes=x:2x8,s:2",
        "--maxShapes=x:4x8,s:3",
        "--timingCacheFile=t.cache",
        "--errorOnTimingCacheMiss",
        "--builderOptimizationLevel=3",
        "--memPoolSize=workspace:512",
    ):
        assert argument in command
    assert trtexec.build_command("trtexec", (10, 3, 0), "m", "e", {"types": ["int8"]}) == [
        "trtexec", "--onnx=m", "--saveEngine=e", "--skipInference", "--stronglyTyped",
    ]  # fmt: skip
    assert trtexec.build_command("trtexec", (8, 5, 2), "m", "e", {"types": ["fp16", "int8"]}) == [
        "trtexec", "--onnx=m", "--saveEngine=e", "--buildOnly", "--fp16", "--int8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"optimization_level": 3}, r"trtexec 8\.5\.2 .* has no --builderOptimizationLevel"),
        ({"strict_timing_cache": True}, "has no --errorOnTimingCacheMiss"),
    ],
)
def test_what_an_old_one_does_not_know_is_refused(wish: dict[str, object], words: str) -> None:
    with pytest.raises(BoardError, match=words) as raised:
        trtexec.build_command("trtexec", (8, 5, 2), "m", "e", wish)
    assert "It came with TensorRT" in raised.value.fix


def test_outputs_come_back_with_their_types() -> None:
    text = (
        '[\n  { "name" : "y"\n  , "dimensions" : "1x2x2"\n'
        '  , "values" : [ 1.5, nan, -inf, inf ]\n  }\n'
        ', { "name" : "labels"\n  , "dimensions" : "3"\n  , "values" : [ 0, 17, 255 ]\n  }\n]\n'
    )
    found = trtexec.read_outputs(text, {"y": "float32", "labels": "uint8"})
    np.testing.assert_array_equal(
        found["y"], np.array([[[1.5, np.nan], [-np.inf, np.inf]]], np.float32)
    )
    np.testing.assert_array_equal(found["labels"], np.array([0, 17, 255], np.uint8))
    assert found["labels"].dtype == np.uint8


def test_times_are_those_of_a_session() -> None:
    text = json.dumps(
        [{"startEnqMs": 2.0, "endEnqMs": 2.5, "h2dMs": 1.0, "computeMs": 4.0, "d2hMs": 0.5,
          "latencyMs": 5.5}]
    )  # fmt: skip
    assert trtexec.read_times(text) == [
        {"wall_ms": 5.5, "h2d_ms": 1.0, "compute_ms": 4.0, "d2h_ms": 0.5, "enqueue_ms": 0.5}
    ]


@pytest.fixture
def cases(tmp_path: Path) -> list[BoardCase]:
    float_path = models.save(models.conv(), tmp_path / "fp32.onnx")
    int8_path = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    return [
        BoardCase(name, path, "trtexec")
        for name, path in (("fp32", float_path), ("int8", int8_path))
    ]


@pytest.mark.parametrize("number", list(VERSIONS))
def test_a_job_from_upload_to_outputs(
    board: Board, tmp_path: Path, cases: list[BoardCase], number: str
) -> None:
    """Built, timed in blocks and asked for outputs, which are ONNX Runtime's up to six digits."""
    program = trtexec_program.install(tmp_path / "bin", number)
    access = board.access(python=str(trtexec_program.python_with(program.parent)))
    plan = Plan(warmup=1, min_runs=60, min_seconds=0.0, max_runs=60)
    job = Job(cases, FEEDS, plan, outputs=True)
    done = run_on_board(board.address, job, access)
    result = timings_of("desk", done, job)
    assert [case.runtime for case in result.cases] == ["trtexec", "trtexec"]
    assert result.cases[1].ratio_to_reference is not None
    assert len(result.cases[0].timing.latencies_ms) == 60
    assert {"h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms"} == set(result.cases[0].spans)
    assert result.board["runtimes"]["trtexec"] == trtexec.dotted(VERSIONS[number])
    for case in cases:
        session = cpu().load(case.path, threads=1)
        for feeds, outputs in zip(FEEDS, done.outputs[case.name], strict=True):
            # six significant digits are written: relative error at most 5e-6
            np.testing.assert_allclose(outputs["y"], session.run(feeds)["y"], rtol=6e-6, atol=1e-30)
    lines = (program.parent / "calls.jsonl").read_text().splitlines()
    calls = [json.loads(line) for line in lines]
    timed = [call for call in calls if any(a.startswith("--exportTimes") for a in call)]
    assert 4 <= len(timed) <= 8, "blocks of 50 runs, not one process a run"
    assert ("--includeDataTransfers" in timed[0]) == (number == "110100")
    assert ("--noCudaGraph" in timed[0]) == (number == "110100")


def test_an_input_of_any_size(board: Board, tmp_path: Path) -> None:
    proto = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [("x", models.FLOAT, ["batch", 8])],
        [("y", models.FLOAT, ["batch", 4])],
        {"w": models.weights(8, 4)},
    )
    program = trtexec_program.install(tmp_path / "bin", "8502")
    access = board.access(python=str(trtexec_program.python_with(program.parent)))
    model = models.save(proto, tmp_path / "m.onnx")
    case = BoardCase("m", model, "trtexec", build={"shapes": SHAPES})
    feeds = [{"x": models.weights(3, 8)}]
    done = run_on_board(board.address, Job([case], feeds, outputs=True), access)
    expected = cpu().load(model).run(feeds[0])["y"]
    # six significant digits are written
    np.testing.assert_allclose(done.outputs["m"][0]["y"], expected, rtol=6e-6)


def test_what_trtexec_does_not_take_is_told_in_its_words(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The board's program knows nothing of what it is asked: here, a broken installation."""
    program = trtexec_program.install(tmp_path / "bin", "8502")
    program.write_text(program.read_text().replace("'buildOnly', ", ""))
    inventory = tmp_path / "boards.yaml"
    entry = {
        "address": str(board.address),
        "identity": str(board.folder / "user_key"),
        "known_hosts": str(board.folder / "known_hosts"),
        "cache": str(board.cache),
        "python": str(trtexec_program.python_with(program.parent)),
    }
    inventory.write_text(json.dumps({"boards": {"desk": entry}}))
    model = models.save(models.conv(), tmp_path / "m.onnx")
    arguments = ["--board", str(inventory), "--runtime", "trtexec", "--runs", "2"]
    assert cli.run(["bench", str(model), *arguments]) == 2
    assert "trtexec failed (1): Unknown option: --buildOnly" in capsys.readouterr().out
