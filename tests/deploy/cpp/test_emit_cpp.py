"""The C++ consumer: what is written, that it compiles, and that it computes what Python computes.

ONNX Runtime's headers (Debian's libonnxruntime-dev) and the library of the Python package make a
real program. TensorRT's headers are in no registry: its loader is compiled against a declaration
of the interface that it uses, which was compared with NVIDIA's headers of 10.0, 10.3, 10.16 and
11.1 by compiling against them too (November 2026).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploy.cpp import emit_cpp
from deploy.cpp.writing import header
from exporters.errors import UserError
from exporters.modelfile import (
    InputSpec,
    ModelFile,
    ModelSpec,
    OutputSpec,
    StateSpec,
    WeightsSource,
    save_model,
)
from runtimes.ort import cpu

DECLARED = Path(__file__).with_name("declared")
COMPILER = shutil.which("g++") or shutil.which("clang++")
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def spec(**changes: object) -> ModelSpec:
    """y = x + history, and y is the next history."""
    values: dict[str, object] = {
        "variant": "running-sum",
        "family": "tests",
        "task": "tensor",
        "inputs": (
            InputSpec("x", "float32", (2, 3)),
            InputSpec("history", "float32", (2, 3), "state"),
        ),
        "outputs": (
            OutputSpec("y", "float32", (2, 3), "state"),
            OutputSpec("positive", "bool", (2, 3)),
        ),
        "states": (StateSpec("y", "history"),),
        "weights": WeightsSource("random", seed=0),
        "classes": ('a "quoted"\nname', "Fußgänger"),
        "geometry": {"voxel_m": 0.4, "text": "x" * 40_000},
    }
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def running_sum(path: Path) -> ModelFile:
    def info(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [2, 3])

    nodes = [
        helper.make_node("Add", ["x", "history"], ["y"], name="add"),
        helper.make_node("Greater", ["y", "zero"], ["positive"], name="greater"),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [info("x"), info("history")],
        [info("y"), info("positive", TensorProto.BOOL)],
        [onnx.numpy_helper.from_array(np.float32(0), "zero")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return save_model(proto, path, spec=spec())


def compile_(source: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert COMPILER is not None
    command = [COMPILER, *WARNINGS, str(source), "-o", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def onnxruntime_flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Include path of the headers, and how to link the library of the Python package."""
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    if not (include / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("no headers of ONNX Runtime: set ONNXRUNTIME_INCLUDE")
    import onnxruntime

    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
    linked = tmp_path_factory.mktemp("onnxruntime") / "libonnxruntime.so.1"  # its own name for it
    linked.symlink_to(library)
    return [f"-isystem{include}", str(linked), f"-Wl,-rpath,{linked.parent}"]


def test_the_header_is_written_the_same_twice(tmp_path: Path) -> None:
    file = running_sum(tmp_path / "m.onnx")
    first = emit_cpp(file, tmp_path / "a")
    second = emit_cpp(file, tmp_path / "b")
    assert first.files == second.files
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = (tmp_path / "a" / "model.hpp").read_text()
    assert file.sha256 in text
    assert '{"history", edgeport::Type::f32, 2, {2, 3}},  // state' in text
    assert "{0, 1},  // history" in text
    assert "random weights, seed 0" in text


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = running_sum(tmp_path / "m.onnx")
    emit_cpp(file, tmp_path / "out")
    with pytest.raises(UserError, match=r"model\.hpp exists already"):
        emit_cpp(file, tmp_path / "out")
    emit_cpp(file, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": (InputSpec("x", "float32", ("n", 3)),), "states": ()}, r"'x' has dynamic axes"),
        ({"inputs": (InputSpec("x", "float8_e4m3fn", (2,)),), "states": ()}, r"is float8_e4m3fn"),
        ({"inputs": (InputSpec("x", "uint8", (1,) * 9),), "states": ()}, r"'x' has 9 axes"),
        ({"states": (StateSpec("y", "history", "repeat-current"),)}, r"starts with repeat-current"),
        ({"states": (StateSpec("y", "history", age=2),)}, r"is of 2 samples ago"),
    ],
)
def test_what_the_loaders_do_not_have_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        header(spec(**changes), "0" * 64)


def test_a_foreign_model_and_a_needless_rig_are_refused(tmp_path: Path) -> None:
    file = running_sum(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="has its rig baked in"):
        emit_cpp(file, tmp_path / "out", rig=tmp_path / "rig.json")
    proto = file.proto
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="no edgeport self-description"):
        emit_cpp(tmp_path / "foreign.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_compiler
def test_awkward_names_compile_and_keep_their_bytes(tmp_path: Path) -> None:
    names = ("images.0", "images_0", "class", "3d", "größe", "??=")
    inputs = tuple(InputSpec(name, "uint8", (2,)) for name in names)
    text = header(spec(inputs=inputs, states=()), "0" * 64)
    (tmp_path / "model.hpp").write_text(text, encoding="utf-8")
    shutil.copy(Path(emit_cpp.__code__.co_filename).with_name("ports.hpp"), tmp_path)
    (tmp_path / "main.cpp").write_text(
        '#include <cstdio>\n#include "model.hpp"\n'
        "int main() { for (const auto& p : model::kInputs) std::puts(p.name);\n"
        "for (const char* c : model::kClasses) std::puts(c);\n"
        "std::fputs(model::kGeometry, stdout); }"
    )
    built = compile_(tmp_path / "main.cpp", tmp_path / "main")
    assert built.returncode == 0, built.stderr
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout.decode()
    assert said.startswith("\n".join([*names, 'a "quoted"\nname', "Fußgänger"]) + "\n")
    assert re.search(r'"text": "x{40000}"', said)


@needs_compiler
def test_the_tensorrt_loader_compiles_against_the_declared_interface(tmp_path: Path) -> None:
    emit_cpp(running_sum(tmp_path / "m.onnx"), tmp_path / "out")
    built = compile_(
        tmp_path / "out" / "main_tensorrt.cpp", tmp_path / "main.o", "-c", f"-isystem{DECLARED}"
    )
    assert built.returncode == 0, built.stderr


@pytest.mark.oracle
@needs_compiler
def test_the_program_computes_what_python_computes(
    tmp_path: Path, onnxruntime_flags: list[str]
) -> None:
    """Three frames; the state of each is the sum so far."""
    file = running_sum(tmp_path / "m.onnx")
    emit_cpp(file, tmp_path / "out")
    source, program = tmp_path / "out" / "main_onnxruntime.cpp", tmp_path / "run"
    built = compile_(source, program, *onnxruntime_flags)
    assert built.returncode == 0, built.stderr
    frames = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    folders = []
    for index, frame in enumerate(frames):
        folders.append(tmp_path / f"frame{index}")
        folders[-1].mkdir()
        frame.tofile(folders[-1] / "x.bin")
    ran = subprocess.run(
        [program, file.path, tmp_path / "result", *folders], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    session, history = cpu().load(file.path), np.zeros((2, 3), np.float32)
    for index, frame in enumerate(frames):
        expected = session.run({"x": frame, "history": history})
        history = expected["y"]
        for name, value in expected.items():
            found = np.fromfile(tmp_path / "result" / str(index) / f"{name}.bin", value.dtype)
            np.testing.assert_array_equal(found.reshape(value.shape), value)


@needs_compiler
def test_another_file_than_the_headers_is_refused_in_words(
    tmp_path: Path, onnxruntime_flags: list[str]
) -> None:
    file = running_sum(tmp_path / "m.onnx")
    emit_cpp(file, tmp_path / "out")
    other = file.proto
    for value in (*other.graph.input, *other.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(other, tmp_path / "other.onnx")
    program = tmp_path / "run"
    built = compile_(tmp_path / "out" / "main_onnxruntime.cpp", program, *onnxruntime_flags)
    assert built.returncode == 0, built.stderr
    for arguments, words in (
        (
            [tmp_path / "other.onnx", tmp_path, tmp_path],
            r"'x' is \[2, 5\], the header has \[2, 3\]",
        ),
        ([file.path, tmp_path, tmp_path], r"x\.bin does not hold 24 bytes"),
        ([tmp_path / "none.onnx", tmp_path, tmp_path], r"none\.onnx"),
    ):
        ran = subprocess.run([program, *arguments], capture_output=True, text=True)
        assert ran.returncode == 1
        assert re.search(words, ran.stderr), ran.stderr
