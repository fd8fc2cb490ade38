"""The harness that runs other quantizers; ONNX Runtime's own is the peer that is always here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import load_catalogue, run_edgeport, run_peer
from benchmarks.peers.environments import install, is_installed
from benchmarks.peers.judging import int8_coverage, load_error
from benchmarks.peers.supervised import Limits, supervise
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from tests.calibration import nets

HERE = Path(sys.executable)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(nets.residual(), path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    for index, sample in enumerate(nets.samples(nets.residual(), 4)):
        np.savez(folder / f"{index}.npz", **sample, **{"label.class": np.array(3)})
    return folder


def test_everything_is_pinned_to_one_version() -> None:
    torch = set()
    for peer in load_catalogue().values():
        names = [package.partition("==")[0].lower() for package in peer.packages]
        assert all(package.count("==") == 1 for package in peer.packages), peer.name
        assert len(set(names)) == len(names), peer.name
        assert "torchvision" not in names
        assert peer.script.is_file()
        assert peer.version
        assert peer.variants
        torch |= {p for p in peer.packages if p.startswith("torch==")}
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert [f"TORCH := {pin}" in makefile for pin in torch] == [True]


def test_a_peer_runs_on_a_copy_and_is_measured(model: Path, samples: Path, tmp_path: Path) -> None:
    before = sha256_file(model)
    output = tmp_path / "q.onnx"
    result = run_peer("ort:minmax", model, samples, output, python=HERE, count=3)
    assert result.error == "", result.log
    assert result.output == output
    assert result.samples == 3
    assert 0 < result.peak_rss_gib < 2
    assert result.quantize_s is not None
    assert result.quantize_s <= result.wall_s
    assert sha256_file(model) == before
    assert sorted(p.name for p in model.parent.iterdir()) == ["net.onnx", "q.onnx", "samples"]
    coverage = int8_coverage(onnx.load(output))
    assert coverage.int8 == coverage.total == int8_coverage(onnx.load(model)).total
    assert int8_coverage(onnx.load(model)).int8 == 0
    told = result.to_json()
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(UserError, match="exists already"):
        run_peer("ort:minmax", model, samples, output, python=HERE)


def test_what_goes_wrong_is_data(model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run_peer("ort:minmax", model, empty, tmp_path / "q.onnx", python=HERE)
    assert result.output is None
    assert result.error == f"FileNotFoundError: {empty} holds no .npz samples"
    assert result.to_json()["mib"] is None


def test_ours_is_measured_alike(model: Path, samples: Path, tmp_path: Path) -> None:
    words = ("--policy", "onnxruntime", "--scales", "minmax", "--i-know", "all")
    result = run_edgeport(model, samples, tmp_path / "q.onnx", *words)
    assert result.error == "", result.log
    assert result.samples == 4
    assert load_error(tmp_path / "q.onnx", next(iter(nets.samples(nets.residual(), 1)))) == ""
    refused = run_edgeport(model, samples, tmp_path / "r.onnx", "--scales", "minmacks")
    assert refused.output is None
    assert refused.error.startswith("exit code 2: ")
    assert "minmax" in refused.log


def test_names_and_environments_that_are_not_there(
    model: Path, samples: Path, tmp_path: Path
) -> None:
    arguments = (model, samples, tmp_path / "q.onnx")
    with pytest.raises(UserError, match=r"unknown peer 'nncv'.*nncf"):
        run_peer("nncv:mixed", *arguments)
    with pytest.raises(UserError, match=r"NNCF has no variant 'mixd'.*mixed"):
        run_peer("nncf:mixd", *arguments)
    with pytest.raises(MissingRequirementError, match=r"python -m benchmarks\.peers install nncf"):
        run_peer("nncf:mixed", *arguments, cache=tmp_path / "none")


def test_an_environment_of_other_pins_does_not_count(tmp_path: Path) -> None:
    peer = load_catalogue()["ort"]
    folder = tmp_path / peer.name
    folder.mkdir()
    (folder / "installed.txt").write_text("\n".join(peer.packages) + "\n")
    assert is_installed(peer, tmp_path)
    assert install(peer, tmp_path) == folder / "bin" / "python"
    (folder / "installed.txt").write_text("\n".join(peer.packages[1:]) + "\n")
    assert not is_installed(peer, tmp_path)


def test_memory_of_children_counts_and_limits_end_them(tmp_path: Path) -> None:
    child = "b = bytearray(300 << 20); import time; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    seen = supervise(command, Limits(seconds=60, rss_gib=0.25), os.environ, tmp_path)
    assert seen.stopped == "stopped: memory above 0.25 GiB"
    assert seen.returncode is None
    assert seen.peak_rss_gib > 0.25
    seen = supervise(command, Limits(seconds=0.5), os.environ, tmp_path)
    assert seen.stopped == "stopped: more than 0.5 s"
    alive = subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout
    assert "b = bytearray(300 << 20)" not in alive


def test_coverage_tells_weights_from_layers() -> None:
    weight = numpy_helper.from_array(np.ones((2, 2), np.int8), "w")
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    float_weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "f")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"]),
        helper.make_node("MatMul", ["x", "wd"], ["a"]),  # weights alone
        helper.make_node("QuantizeLinear", ["a", "s"], ["aq"]),
        helper.make_node("DequantizeLinear", ["aq", "s"], ["ad"]),
        helper.make_node("Transpose", ["ad"], ["at"]),
        helper.make_node("MatMul", ["at", "wd"], ["b"]),  # int8, seen through the Transpose
        helper.make_node("MatMul", ["b", "f"], ["c"]),  # float
        helper.make_node("MatMul", ["c", "b"], ["y"]),  # two activations: no layer
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [weight, scale, float_weight])
    coverage = int8_coverage(helper.make_model(graph))
    assert (coverage.int8, coverage.weight_only, coverage.total) == (1, 1, 3)
    assert str(coverage) == "1+1w/3"
