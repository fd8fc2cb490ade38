"""Engines, targets and builds: versions, plugins, reformats, DLA, caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.errors import UserError
from runtimes import targets
from runtimes.standing import standing
from runtimes.tensorrt import timing_cache
from tests.deploy.conftest import Mini
from tests.runtimes import models
from tests.runtimes.tensorrt import engine_layers

from .conftest import Asked

Ask = Callable[..., Asked]
ORIN = "jetson-orin-agx/jp6.2/trt10.3"
RTX = "rtx-ada/trt-rtx1.7"


def plan(path: Path, *version: int) -> Path:
    """The bytes of a version where NVIDIA said they are, and nothing else of an engine."""
    path.write_bytes(bytes(24) + bytes(version) + bytes(100))
    return path


def one_node(path: Path, node: onnx.NodeProto, sizes: list[int], **constants: np.ndarray) -> Path:
    proto = models.model(
        [node], [("x", models.FLOAT, sizes)], [(node.output[0], models.FLOAT, None)], constants
    )
    return models.save(proto, path)


def test_bev_pooling_needs_no_plugin(ask: Ask, mini: Mini, tmp_path: Path) -> None:
    node = models.node("bev_pool_v2", ["x"], ["y"], name="pool", domain="mmdeploy")
    proto = models.model([node], [("x", models.FLOAT, [4])], [("y", models.FLOAT, [4])])
    proto.opset_import.append(onnx.helper.make_opsetid("mmdeploy", 1))
    theirs = models.save(proto, tmp_path / "theirs.onnx")
    said = ask("FlashOCC#38", 2, "check", theirs, "--target", ORIN)
    assert "is mmdeploy::bev_pool_v2, an operator of a foreign domain" in said
    said = ask("BEVDet#254", 0, "check", mini.fp32, "--target", ORIN)
    assert "nothing known stops a build" in said


def test_int8_islands_that_do_not_pay(ask: Ask, tmp_path: Path) -> None:
    engine = plan(tmp_path / "m.engine", 10, 3, 0)
    files = [tmp_path / "layers.json", tmp_path / "profile.json"]
    files[0].write_text(json.dumps(engine_layers.LAYERS))
    files[1].write_text(json.dumps(engine_layers.profile()))
    said = ask("TensorRT#4039", 0, "inspect", engine, "--layers", files[0], "--profile", files[1])
    assert "stay FP16: its borders cost" in said
    assert "--keep-float conv3" in said


def test_an_engine_of_another_version(ask: Ask, tmp_path: Path) -> None:
    engine = plan(tmp_path / "m.engine", 8, 6, 1)
    said = ask("TensorRT#2105", 2, "bench", engine)
    assert "it was built by TensorRT 8.6.1" in said
    assert "edgeport build" in said


def test_what_an_engine_says_of_itself(ask: Ask, tmp_path: Path) -> None:
    engine = plan(tmp_path / "m.engine", 10, 3, 0)
    said = ask("autoware_universe#10320", 0, "inspect", engine)
    assert "built by TensorRT 10.3.0" in said


def test_a_build_that_must_repeat(ask: Ask, tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    said = ask("TensorRT#4798", 2, "build", model, "-o", tmp_path / "e", "--strict-timing-cache")
    assert "needs a timing cache to be strict about" in said


def test_a_cache_of_another_gpu(tmp_path: Path) -> None:
    """The key of a cache needs a builder that times kernels; here its rule alone is asked."""
    measured, cache = tmp_path / "new", tmp_path / "timing.cache"
    measured.write_bytes(b"times")
    orin = timing_cache.CacheKey("tensorrt-10", "10.3.0", "Orin (8.7)")
    timing_cache.store(cache, measured, orin)
    with pytest.raises(UserError) as error:
        timing_cache.require_usable(cache, replace(orin, gpu="Thor (11.0)"), strict=False)
    said = Asked("TensorRT#3612", str(error.value))
    assert "measured by tensorrt-10 10.3.0 on Orin (8.7); here is" in said


@pytest.mark.parametrize(
    ("thread", "version", "code", "words"),
    [
        ("TensorRT#3799", "10.3.0", 0, "Without a scale: in FP16, or on the GPU"),
        ("TensorRT#2222", "10.3.0", 0, "the DLA rounds ties away from zero"),
        ("mmdeploy#2204", "10.13.0", 2, "TensorRT 10.13.0 has no DLA: 10.7 was the last"),
    ],
)
def test_dla(ask: Ask, tmp_path: Path, thread: str, version: str, code: int, words: str) -> None:
    model = models.save(models.quantized_conv(), tmp_path / "int8.onnx")
    output = tmp_path / "m.cache"
    said = ask(thread, code, "dla-scales", model, "-o", output, "--tensorrt", version)
    assert words in said


def test_an_engine_for_a_board_is_built_on_the_board(ask: Ask, tmp_path: Path) -> None:
    model = models.save(models.conv(), tmp_path / "m.onnx")
    arguments = ["build", model, "-o", tmp_path / "e", "--target", ORIN]
    said = ask("TensorRT-Edge-LLM#178", 3, *arguments)
    assert "needs TensorRT 10.3 on the Jetson AGX Orin itself" in said


def test_a_reduction_that_is_silently_ignored(ask: Ask, tmp_path: Path) -> None:
    node = models.node("ScatterND", ["x", "i", "u"], ["y"], reduction="add", name="scatter0")
    indices, updates = np.zeros((4, 1), np.int64), np.ones(4, np.float32)
    model = one_node(tmp_path / "m.onnx", node, [8], i=indices, u=updates)
    target = "jetson-xavier/jp5.1/trt8.5"
    said = ask("TensorRT#3750", 1, "check", model, "--target", target, "--json")
    assert "silently ignores the reduction and gives wrong numbers" in said


def test_limits_that_only_the_builder_knows(ask: Ask, tmp_path: Path) -> None:
    node = models.node("TopK", ["x", "k"], ["y", "i"], name="top")
    model = one_node(tmp_path / "m.onnx", node, [1, 8000], k=np.array([4000]))
    said = ask("own: TopK", 1, "check", model, "--target", RTX, "--json")
    assert "K exceeds 3840: it parses, then the build fails" in said


def test_zero_points(ask: Ask, tmp_path: Path) -> None:
    model = models.save(models.quantized_conv(zero_point=3), tmp_path / "m.onnx")
    said = ask("own: zero points", 1, "check", model, "--target", ORIN, "--json")
    assert "the zero point is not 0, and TensorRT quantizes symmetrically" in said
    assert "edgeport quantize --policy tensorrt" in said


def test_a_jetpack_that_no_table_has(tmp_path: Path) -> None:
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "etc").mkdir()
    release = "# R39 (release), REVISION: 9.9, GCID: 1, BOARD: generic, EABI: aarch64"
    (tmp_path / "etc" / "nv_tegra_release").write_text(release)
    said = Asked("jetson_stats#801", standing(targets.load(), "", tmp_path).reason)
    assert "the table does not know which JetPack Jetson Linux 39.9.9 belongs to" in said
