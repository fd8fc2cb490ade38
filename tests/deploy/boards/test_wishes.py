"""What a board's builder is asked for, by TensorRT-RTX's real builder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import cli
from deploy.boards.onboard.building import build_engine
from deploy.boards.onboard.journal import BoardError, Journal
from deploy.boards.onboard.wishes import trtexec_arguments
from deploy.boards.wishes import wishes
from exporters.errors import UserError
from runtimes.shapes import shape_ranges
from tests.deploy.conftest import Refused
from tests.runtimes import models

SHAPES = {"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}


def dynamic(path: Path) -> Path:
    proto = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [("x", models.FLOAT, ["batch", 8])],
        [("y", models.FLOAT, ["batch", 4])],
        {"w": models.weights(8, 4)},
    )
    return models.save(proto, path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(str(tmp_path / "log.jsonl"))
    yield journal
    journal.close()


def built(tmp_path: Path, log: Journal, **options: object) -> bytes:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    model, engine = dynamic(tmp_path / "m.onnx"), tmp_path / "m.engine"
    build_engine(str(model), str(engine), "tensorrt_rtx", dict(options), log)
    return engine.read_bytes()


def test_an_engine_with_a_profile_is_built(tmp_path: Path, log: Journal) -> None:
    assert len(built(tmp_path, log, shapes=SHAPES, optimization_level=2, workspace_mib=64)) > 1000
    assert not (tmp_path / "m.engine.partial").exists()


def test_exact_floats_are_no_tf32(tmp_path: Path, log: Journal) -> None:
    assert trtexec_arguments({"exact_floats": True}) == ["--noTF32"]
    assert len(built(tmp_path, log, shapes=SHAPES, exact_floats=True)) > 1000


def test_without_a_profile_the_builder_says_what_it_misses(tmp_path: Path, log: Journal) -> None:
    with pytest.raises(BoardError, match="could not build"):
        built(tmp_path, log)
    assert not (tmp_path / "m.engine").exists()


def test_ranges_that_do_not_rise_are_refused(tmp_path: Path, log: Journal) -> None:
    wrong = {"x": {"min": [4, 8], "opt": [2, 8], "max": [1, 8]}}
    with pytest.raises(BoardError, match="refuses the shape ranges"):
        built(tmp_path, log, shapes=wrong)


def test_a_strict_build_without_kernel_times_is_refused(tmp_path: Path, log: Journal) -> None:
    cache = str(tmp_path / "timing" / "rtx.cache")
    with pytest.raises(BoardError, match="no timing cache yet"):
        built(tmp_path, log, shapes=SHAPES, timing_cache=cache, strict_timing_cache=True)


def test_wishes_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    model = dynamic(tmp_path / "m.onnx")
    found = wishes(
        [model], shape_ranges("x:1x8", "x:2x8", "x:4x8"), strip_weights=False, refit=True
    )
    assert found == {"refit": True, "shapes": SHAPES}
    assert wishes([model]) == {}
    with pytest.raises(UserError, match="axis 1 of input 'x' is 8 in the model"):
        wishes([model], shape_ranges(optimum="x:2x9"))


def test_a_builders_option_without_a_board_is_refused(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("bench",))
    model = models.save(models.conv(), tmp_path / "m.onnx")
    assert "--strip-weights is for boards" in refused(2, "bench", model, "--strip-weights")
