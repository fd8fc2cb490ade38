"""The question whether a runtime adds, asked of one that does and of one that overwrites."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes import get
from runtimes.base import Session
from runtimes.tensorrt.selftest import require_adding, scatters_and_adds, two_in_one_place


def load(engine: Path) -> Session:
    return get("onnxruntime").load(engine)


def copy(model: Path, engine: Path) -> None:
    shutil.copy(model, engine)


def overwrite(_model: Path, engine: Path) -> None:
    """As TensorRT 8 does: the reduction is read and not done."""
    engine.write_bytes(two_in_one_place("none").SerializeToString())


def test_a_runtime_that_adds_passes(tmp_path: Path) -> None:
    require_adding(tmp_path, copy, load, "ONNX Runtime")


def test_one_that_overwrites_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TensorRT 8\.6 scatters two ones .* finds 1 there"):
        require_adding(tmp_path, overwrite, load, "TensorRT 8.6")


def test_only_graphs_that_add_are_asked_about() -> None:
    assert scatters_and_adds(two_in_one_place())
    assert not scatters_and_adds(two_in_one_place("none"))


def test_tensorrt_rtx_refuses_a_sum_by_its_node_without_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    path = tmp_path / "sum.onnx"
    model = two_in_one_place()
    model.graph.node[0].name = "vfe/sum"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"node vfe/sum adds where it scatters .*TensorRT-RTX"):
        get("tensorrt").build(ModelFile(path), tmp_path / "sum.engine")
