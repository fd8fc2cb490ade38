"""Build options on the real TensorRT-RTX builder, and the refusals of what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelFile
from runtimes import passport
from runtimes.base import BuildOptions, Engine
from runtimes.cuda import device_problem
from runtimes.shapes import ShapeRange
from runtimes.tensorrt import timing_cache
from runtimes.tensorrt.adapter import TensorRT
from runtimes.tensorrt.installed import Installed
from runtimes.tensorrt.timing_cache import CacheKey
from runtimes.tensorrt.wishes import recorded, require_possible
from tests.runtimes import models

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")

Build = Callable[..., Engine]
RANGE = ShapeRange("x", (1, 8, 8, 16), (2, 8, 16, 16), (4, 8, 32, 16))
ORIN = Installed("tensorrt", "10.3.0", "tensorrt-10")
KEY = CacheKey("tensorrt-10", "10.3.0", "Orin (8.7)")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def run(proto: onnx.ModelProto, name: str = "m", **options: object) -> Engine:
        source = models.save(proto, tmp_path / f"{name}.onnx")
        output = tmp_path / "out" / f"{name}.engine"
        return TensorRT().build(ModelFile(source), output, BuildOptions(**options))  # type: ignore[arg-type]

    return run


def dynamic_conv() -> onnx.ModelProto:
    sizes: list[int | str] = ["n", 8, "h", 16]
    return models.model(
        [models.node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        [("x", models.FLOAT, sizes)],
        [("y", models.FLOAT, sizes)],
        {"w": models.weights(8, 8, 3, 3)},
    )


def differing_bytes(one: Path, other: Path) -> int:
    """At how many places two files differ; the size of the longer where sizes differ."""
    a, b = one.read_bytes(), other.read_bytes()
    if len(a) != len(b):
        return max(len(a), len(b))
    return int(np.count_nonzero(np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8)))


def test_a_range_of_shapes_is_built_for_and_recorded(build: Build) -> None:
    engine = build(dynamic_conv(), shapes=(RANGE,))
    papers = passport.read_passport(engine.path)
    assert papers == engine.passport
    assert papers.inputs[0].shape == ("n", 8, "h", 16)
    assert papers.options == {
        "shapes": {"x": {"min": [1, 8, 8, 16], "opt": [2, 8, 16, 16], "max": [4, 8, 32, 16]}}
    }


@pytest.mark.oracle
@pytest.mark.slow
def test_polygraphy_builds_the_same_engine_for_the_same_range(build: Build, tmp_path: Path) -> None:
    """Polygraphy makes the profile by its own code; an equal engine means an equal profile.

    Engines with a profile are not always the same to the byte: in 4 of 100 builds by the same
    code TensorRT-RTX 1.7.1 writes the same sections in another order, which moves 16 bytes of
    286,724 (2026-11-22). Another optimum moves some four hundred.
    """
    ours = build(dynamic_conv(), shapes=(RANGE,))
    theirs = tmp_path / "polygraphy.engine"
    code = (
        "import sys\n"
        "from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, Profile\n"
        "profile = Profile().add('x', (1, 8, 8, 16), (2, 8, 16, 16), (4, 8, 32, 16))\n"
        "def configure(builder, network):\n"
        "    config = builder.create_builder_config()\n"
        "    config.add_optimization_profile(profile.to_trt(builder, network))\n"
        "    return config\n"
        "network = NetworkFromOnnxPath(sys.argv[1])\n"
        "build = EngineBytesFromNetwork(network, config=configure)\n"
        "open(sys.argv[2], 'wb').write(bytes(build()))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(theirs)],
        env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        check=True,
    )
    assert differing_bytes(ours.path, theirs) <= 64
    other = build(dynamic_conv(), "other", shapes=(replace(RANGE, optimum=(3, 8, 16, 16)),))
    assert differing_bytes(ours.path, other.path) > 64


def test_other_ranges_are_other_engines(build: Build) -> None:
    wide = build(dynamic_conv(), "wide", shapes=(RANGE,))
    fixed = replace(RANGE, minimum=RANGE.optimum, maximum=RANGE.optimum)
    narrow = build(dynamic_conv(), "narrow", shapes=(fixed,))
    assert wide.passport.engine_sha256 != narrow.passport.engine_sha256
    assert narrow.passport.log["activation_bytes"] < wide.passport.log["activation_bytes"]


def test_dynamic_axes_without_a_range_say_what_to_type(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"input 'x' has dynamic axes \['n', 8, 'h', 16\]") as error:
        build(dynamic_conv())
    assert "--min-shapes x:1x8x1x16 --opt-shapes x:1x8x1x16 --max-shapes x:8x8x8x16" in (
        error.value.fix
    )
    assert not list((tmp_path / "out").glob("*"))


def test_an_input_that_is_read_as_a_shape_is_refused(build: Build) -> None:
    reshape = models.model(
        [models.node("Reshape", ["x", "size"], ["y"])],
        [("x", models.FLOAT, ["n", 4]), ("size", models.INT64, [2])],
        [("y", models.FLOAT, None)],
    )
    with pytest.raises(UserError, match="input 'size' is read as a shape"):
        build(reshape, shapes=(ShapeRange("x", (1, 4), (1, 4), (8, 4)),))


def test_effort_and_details_are_recorded(build: Build) -> None:
    engine = build(models.conv(), optimization_level=0, layer_details=True)
    assert engine.passport.options == {"optimization_level": 0, "layer_details": True}
    assert build(models.conv(), "plain").passport.options == {}
    with pytest.raises(UserError, match="there is no optimization level 6"):
        build(models.conv(), "six", optimization_level=6)


def test_rtx_has_no_timing_cache(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="times no kernels: it compiles them when") as error:
        build(models.conv(), timing_cache=tmp_path / "timing.cache")
    assert "Leave --timing-cache away" in error.value.fix
    with pytest.raises(UserError, match="needs a timing cache to be strict about"):
        build(models.conv(), strict_timing_cache=True)


@pytest.mark.skipif(not device_problem(), reason="a CUDA device is here")
@pytest.mark.parametrize(
    ("wish", "option"), [("strip_weights", "--strip-weights"), ("refit", "--refit")]
)
def test_rtx_strips_and_refits_with_a_gpu_only(
    build: Build, tmp_path: Path, wish: str, option: str
) -> None:
    with pytest.raises(MissingRequirementError) as error:
        build(models.conv(), **{wish: True})
    assert f"builds no engine with {option} without a GPU: no NVIDIA driver" in str(error.value)
    assert f"leave {option} away" in error.value.fix
    assert not list((tmp_path / "out").glob("*"))


def test_tensorrt_proper_is_not_refused_what_rtx_is(tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    options = BuildOptions(timing_cache=cache, strip_weights=True, refit=True)
    require_possible(options, ORIN, "")
    cache.write_bytes(b"times")
    assert recorded(options) == {
        "strip_weights": True,
        "refit": True,
        "timing_cache": {"file": "timing.cache", "sha256": sha256_file(cache)},
    }


def test_a_stripped_engine_is_not_run(build: Build) -> None:
    engine = build(models.conv())
    papers = replace(engine.passport, options={"strip_weights": True})
    passport.passport_path(engine.path).write_text(passport.dump(papers))
    with pytest.raises(UserError, match="was built without weights") as error:
        TensorRT().load(engine.path)
    assert "OnnxParserRefitter" in error.value.fix


def test_a_timing_cache_belongs_to_one_gpu_and_one_tensorrt(tmp_path: Path) -> None:
    measured, cache = tmp_path / "new", tmp_path / "timing.cache"
    measured.write_bytes(b"times")
    timing_cache.require_usable(cache, KEY, strict=False)
    timing_cache.store(cache, measured, KEY)
    assert cache.read_bytes() == b"times"
    timing_cache.require_usable(cache, KEY, strict=True)
    with pytest.raises(UserError) as error:
        timing_cache.require_usable(cache, replace(KEY, gpu="Thor (11.0)"), strict=False)
    assert "measured by tensorrt-10 10.3.0 on Orin (8.7); here is" in str(error.value)
    assert "Thor (11.0)" in str(error.value)
    with pytest.raises(UserError, match=r"here is tensorrt-10 10\.13\.2 on Orin"):
        timing_cache.require_usable(cache, replace(KEY, version="10.13.2"), strict=False)
    timing_cache.key_path(cache).unlink()  # as trtexec leaves it: TensorRT itself decides
    timing_cache.require_usable(cache, KEY, strict=True)
    timing_cache.key_path(cache).write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        timing_cache.require_usable(cache, KEY, strict=False)


def test_a_strict_build_needs_the_times(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no timing cache at") as error:
        timing_cache.require_usable(tmp_path / "none", KEY, strict=True)
    assert "Build once without --strict-timing-cache" in error.value.fix


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        (onnx.TensorProto.FLOAT8E4M3FN, "rtx-ampere/trt-rtx1.7", "FP8 needs compute capability"),
        (onnx.TensorProto.BFLOAT16, "rtx-turing/trt-rtx1.7", "BF16 needs compute capability 8.0"),
        (onnx.TensorProto.UINT4, "rtx-ada/trt-rtx1.7", "has no tensors of type UINT4"),
    ],
)
def test_number_formats_are_checked_against_the_target(
    build: Build, kind: int, target: str, words: str
) -> None:
    """Before the builder sees the model: its own words for this speak of its kernels."""
    with pytest.raises(UserError, match=words) as error:
        build(through(kind), target=target)
    assert "targets.toml" in str(error.value)
    assert "cast" in error.value.fix.lower()


def through(kind: int) -> onnx.ModelProto:
    """float -> ``kind`` -> float; quantized where the type is narrower than a half."""
    if kind == onnx.TensorProto.BFLOAT16:
        nodes = [
            models.node("Cast", ["x"], ["q"], name="down", to=kind),
            models.node("Relu", ["q"], ["r"], name="relu"),
            models.node("Cast", ["r"], ["y"], name="up", to=models.FLOAT),
        ]
    else:
        nodes = [
            models.node("QuantizeLinear", ["x", "s"], ["q"], name="q", output_dtype=kind),
            models.node("DequantizeLinear", ["q", "s"], ["y"], name="dq"),
        ]
    proto = models.model(
        nodes, [("x", models.FLOAT, [4, 8])], [("y", models.FLOAT, [4, 8])], opset=21
    )
    if kind != onnx.TensorProto.BFLOAT16:
        proto.graph.initializer.append(onnx.helper.make_tensor("s", models.FLOAT, [], [0.1]))
    return proto
