"""The real TensorRT-RTX builder, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelFile
from runtimes import passport
from runtimes.base import BuildOptions, Engine, Evidence
from runtimes.cuda import device_problem
from runtimes.tensorrt.adapter import TensorRT
from tests.runtimes import models

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")

Build = Callable[..., Engine]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """``build(proto, name, **options)`` writes into an output folder of its own."""

    def run(proto: onnx.ModelProto, name: str = "m", **options: object) -> Engine:
        source = models.save(proto, tmp_path / f"{name}.onnx")
        output = tmp_path / "out" / f"{name}.engine"
        return TensorRT().build(ModelFile(source), output, BuildOptions(**options))  # type: ignore[arg-type]

    return run


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*")) if folder.exists() else []


@pytest.mark.parametrize(
    ("proto", "dtype"),
    [
        (models.conv(), "float32"),
        (models.conv(np.float16), "float16"),
        (models.quantized_conv(), "float32"),
    ],
    ids=["fp32", "fp16", "int8 q/dq"],
)
def test_an_engine_is_built_with_its_passport(
    build: Build, tmp_path: Path, proto: onnx.ModelProto, dtype: str
) -> None:
    engine = build(proto)
    assert left_in(tmp_path / "out") == ["m.engine", "m.engine.passport.json"]
    papers = passport.read_passport(engine.path)
    assert papers == engine.passport
    assert papers.runtime == "tensorrt-rtx"
    assert papers.runtime_version.startswith("1.7.")
    assert papers.evidence is Evidence.BUILT
    assert papers.compute_capabilities == ()
    assert papers.model_sha256 == sha256_file(tmp_path / "m.onnx")
    assert papers.size_bytes == engine.path.stat().st_size > 1000
    assert papers.build_s > 0
    assert papers.log["weights_bytes"] >= 8 * 8 * 3 * 3  # one byte a weight at least
    assert papers.log["activation_bytes"] > 0
    assert [(t.name, t.dtype, t.shape) for t in papers.inputs] == [("x", dtype, (1, 8, 16, 16))]
    assert [(t.name, t.dtype, t.shape) for t in papers.outputs] == [("y", dtype, (1, 8, 16, 16))]


def test_int8_weights_are_stored_as_int8(build: Build) -> None:
    """Types come from the file: the builder holds a byte, two or four for each weight."""
    sizes = {
        name: build(proto, name).passport.log["weights_bytes"]
        for name, proto in (
            ("fp32", models.conv(channels=64)),
            ("fp16", models.conv(np.float16, channels=64)),
            ("int8", models.quantized_conv(channels=64)),
        )
    }
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


def test_two_builds_have_the_same_bytes(build: Build) -> None:
    first = build(models.quantized_conv(), "a")
    second = build(models.quantized_conv(), "b")
    assert first.passport.engine_sha256 == second.passport.engine_sha256
    assert first.path.read_bytes() == second.path.read_bytes()


def test_the_compute_capability_of_the_target_is_built_for(build: Build) -> None:
    ada = build(models.conv(), "ada", target="rtx-ada/trt-rtx1.7")
    assert ada.passport.compute_capabilities == ("8.9",)
    assert ada.passport.target == "rtx-ada/trt-rtx1.7"
    named = build(models.conv(), "named", compute_capabilities=("8.9",))
    assert named.passport.engine_sha256 == ada.passport.engine_sha256
    both = build(models.conv(), "both", compute_capabilities=("8.9", "12.0"))
    assert both.passport.engine_sha256 != ada.passport.engine_sha256


@pytest.mark.oracle
@pytest.mark.slow
def test_polygraphy_builds_the_same_engine(build: Build, tmp_path: Path) -> None:
    """Polygraphy parses and builds by its own code; equal bytes mean an equal network.

    Its own CreateConfigRTX adds an optimization profile, which a fixed shape does not need.
    """
    ours = build(models.quantized_conv())
    theirs = tmp_path / "polygraphy.engine"
    code = (
        "import sys\n"
        "from polygraphy.backend.trt import (\n"
        "    EngineBytesFromNetwork, NetworkFromOnnxPath)\n"
        "network = NetworkFromOnnxPath(sys.argv[1])\n"
        "plain = lambda builder, network: builder.create_builder_config()\n"
        "build = EngineBytesFromNetwork(network, config=plain)\n"
        "open(sys.argv[2], 'wb').write(bytes(build()))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(theirs)],
        env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        check=True,
    )
    assert ours.path.read_bytes() == theirs.read_bytes()


def test_a_function_is_inlined_and_not_taken_for_the_built_in(build: Build) -> None:
    """``my.domain::Gelu`` adds one; the engine must be that of an addition, not of a Gelu."""
    plus_one = models.model(
        [models.node("Add", ["x", "one"], ["y"])],
        [("x", models.FLOAT, [4])],
        [("y", models.FLOAT, [4])],
        {"one": np.float32(1)},
    )
    gelu = models.model(
        [models.node("Gelu", ["x"], ["y"])],
        [("x", models.FLOAT, [4])],
        [("y", models.FLOAT, [4])],
        opset=20,
    )
    sizes = {
        name: build(proto, name).path.stat().st_size
        for name, proto in (("call", models.with_function()), ("add", plus_one), ("gelu", gelu))
    }
    assert abs(sizes["call"] - sizes["add"]) < abs(sizes["call"] - sizes["gelu"])


@pytest.mark.parametrize(
    ("proto", "words", "fix"),
    [
        (
            models.shift(),
            "cannot parse .*m.onnx at node 'shift0' .BitShift.: the parser does not know",
            "Shift right by s as",
        ),
        (
            models.nms(),
            "cannot build .*m.onnx at node 'nms0' .NonMaxSuppression.: .*no runners that implement",
            "Suppress by MaxPool",
        ),
        (
            models.quantized_conv(zero_point=3),
            "at node 'quantize_x' .QuantizeLinear.: Non-zero zero point is not supported",
            "Quantize symmetrically to int8",
        ),
        (
            models.foreign(),
            "node 'foreign0' is my.domain::Relu, an operator of a foreign domain",
            "Export it as standard ONNX operators",
        ),
    ],
)
def test_a_refused_model_names_node_reason_and_substitute(
    build: Build, tmp_path: Path, proto: onnx.ModelProto, words: str, fix: str
) -> None:
    with pytest.raises(UserError, match=words) as error:
        build(proto)
    assert error.value.fix.startswith(fix)
    assert left_in(tmp_path / "out") == []


def test_what_only_some_gpus_have_is_refused_for_the_others(build: Build, tmp_path: Path) -> None:
    gemm = models.model(
        [models.node("Gemm", ["x", "w"], ["y"], name="fc")],
        [("x", models.FLOAT, [4, 8])],
        [("y", models.FLOAT, [4, 8])],
        {"w": models.weights(8, 8)},
    )
    with pytest.raises(
        UserError, match=r"at node 'fc' .Gemm.: .*FP32 GEMM is not supported"
    ) as error:
        build(gemm, target="rtx-turing/trt-rtx1.7")
    assert "edgeport cast" in error.value.fix
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compute_capabilities": ("8.7",)}, "no engine for compute capability '8.7'"),
        ({"target": "rtx-adda/trt-rtx1.7"}, "Did you mean 'rtx-ada/trt-rtx1.7'"),
        ({"target": "cpu/onnxruntime"}, "runs ONNX Runtime, which needs no engine"),
        (
            {"target": "rtx-ada/trt-rtx1.7", "compute_capabilities": ("8.6",)},
            "has compute capability 8.9, not 8.6",
        ),
    ],
)
def test_impossible_options_are_refused(
    build: Build, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as error:
        build(models.conv(), **options)
    assert words in str(error.value)
    assert left_in(tmp_path / "out") == []


def test_a_jetson_engine_is_built_on_the_jetson(build: Build, tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementError) as error:
        build(models.conv(), target="jetson-orin-agx/jp6.2/trt10.3")
    assert "needs TensorRT 10.3 on the Jetson AGX Orin itself; here is TensorRT-RTX 1.7" in str(
        error.value
    )
    assert "no engine for compute capability 8.7" in str(error.value)
    assert "sudo apt-get install nvidia-jetpack" in error.value.fix
    assert "--system-site-packages" in error.value.fix
    assert "edgeport check MODEL.onnx --target jetson-orin-agx/jp6.2/trt10.3" in error.value.fix
    assert left_in(tmp_path / "out") == []


def test_ctrl_c_leaves_no_file_and_no_process(tmp_path: Path) -> None:
    def interrupt(_phase: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    source = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    output = tmp_path / "out" / "m.engine"
    with pytest.raises(KeyboardInterrupt):
        TensorRT().build(ModelFile(source), output, BuildOptions(), interrupt)
    assert left_in(output.parent) == []
    assert [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_build_that_takes_too_long_leaves_nothing(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TensorRT builder did not finish within 0\.01 s"):
        build(models.conv(), timeout_s=0.01)
    assert left_in(tmp_path / "out") == []


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    source = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    TensorRT().build(
        ModelFile(source), tmp_path / "m.engine", progress=lambda *step: seen.append(step)
    )
    assert {(phase, total) for phase, _, total in seen} == {("build engine", 100)}
    percents = [done for _, done, _ in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(percents) > 1, "the builder's own progress arrives"


def test_nothing_is_overwritten_unasked(build: Build) -> None:
    first = build(models.conv())
    with pytest.raises(UserError, match="exists already"):
        build(models.quantized_conv())
    assert passport.read_passport(first.path) == first.passport
    second = build(models.quantized_conv(), overwrite=True)
    assert passport.read_passport(first.path) == second.passport != first.passport


def test_an_unwritable_output_fails_before_the_build(tmp_path: Path) -> None:
    source = models.save(models.conv(), tmp_path / "m.onnx")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(MissingRequirementError, match="cannot write to") as error:
        TensorRT().build(ModelFile(source), blocked / "m.engine")
    assert "-o" in error.value.fix


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"runtime_version": "1.4.0.76"},
            "was built by tensorrt-rtx 1.4.0.76; version 1.7.1.116 here",
        ),
        (
            {"runtime": "tensorrt-10", "runtime_version": "10.3.0"},
            "was built by tensorrt-10 10.3.0, here is",
        ),
        ({"engine_sha256": "f" * 64}, "is not the engine of its passport"),
    ],
)
def test_a_forged_passport_is_seen_through(
    build: Build, change: dict[str, str], words: str
) -> None:
    engine = build(models.conv())
    forged = replace(engine.passport, **change)  # type: ignore[arg-type]
    passport.passport_path(engine.path).write_text(passport.dump(forged))
    with pytest.raises(UserError) as error:
        TensorRT().load(engine.path)
    assert words in str(error.value)
    assert "edgeport build" in error.value.fix


def test_a_foreign_file_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "foreign.engine"
    path.write_bytes(b"\x7fELF and so on")
    with pytest.raises(UserError, match="has no passport"):
        TensorRT().load(path)


@pytest.mark.skipif(not device_problem(), reason="a CUDA device is here")
def test_without_a_gpu_loading_says_what_is_missing(build: Build) -> None:
    engine = build(models.conv())
    with pytest.raises(
        MissingRequirementError, match="needs a CUDA device to run: no NVIDIA driver"
    ):
        TensorRT().load(engine.path)


@pytest.mark.gpu
@pytest.mark.skipif(bool(device_problem()), reason=f"no CUDA device: {device_problem()}")
def test_with_a_gpu_an_engine_computes_what_onnx_runtime_computes(build: Build) -> None:
    from runtimes.ort import cpu

    feeds = {"x": models.weights(1, 8, 16, 16, seed=1)}
    engine = build(models.conv())
    expected = cpu().load(engine.path.parent.parent / "m.onnx").run(feeds)
    session = TensorRT().load(engine.path)
    # TF32 products keep ten bits
    np.testing.assert_allclose(session.run(feeds)["y"], expected["y"], rtol=1e-2, atol=1e-2)
    session.close()
