"""Whole decoders with kernels: the same bits as the file's functions, on every instruction set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from deploy.cli import run
from deploy.language.stepping import LanguageModel
from exporters.errors import EdgeportError, MissingRequirementError, UserError
from exporters.illm import export
from runtimes.kernels import kernel_names, library
from runtimes.kernels.compiling import NATIVE
from tests.exporters.illm.checkpoints import make

IDS = [5, 77, 200, 3, 3, 150, 319, 8, 41, 260, 12, 99, 17, 18, 310, 7]
PIECES = (IDS[:9], IDS[9:10], IDS[10:11], IDS[11:])
FILES = [
    ("llama-tied", "W8A8", "own"),
    ("llama3-rope", "W6A6", "own"),
    ("qwen2", "W4A4", "own"),
    ("llama3-rope", "W8A8", "rotated"),
    ("qwen2", "W4A4", "rotated"),
]


@pytest.fixture(scope="module", params=FILES, ids=lambda file: "-".join(file))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, bits, basis = request.param
    folder = tmp_path_factory.mktemp(kind)
    make(kind, folder)
    export("illm", folder / "m.onnx", checkpoint=folder, bits=bits, basis=basis)
    return folder / "m.onnx"


def outputs(path: Path, kernels: Path | None, optimized: Path | None = None) -> list[Any]:
    """All that the file gives for the pieces of a text, caches included."""
    options = onnxruntime.SessionOptions()
    options.enable_mem_reuse = False
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that the optimized file is for this machine
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    kinds = {"tensor(int8)": "int8", "tensor(int32)": "int32"}
    past = {
        value.name: np.zeros([1, value.shape[1], 0, value.shape[3]], kinds[value.type])
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    found = []
    for ids in PIECES:
        feeds = {"input_ids": np.array([ids]), "logits_to_keep": np.array([0]), **past}
        values = dict(zip(names, session.run(None, feeds), strict=True))
        past = {name: values[name.replace("past", "present")] for name in past}
        found += list(values.values())
    return found


def test_kernels_give_the_bits_of_the_functions(
    model: Path, compiled: Path, tmp_path: Path
) -> None:
    fused = outputs(model, compiled, tmp_path / "optimized.onnx")
    for value, right in zip(fused, outputs(model, None), strict=True):
        np.testing.assert_array_equal(value, right)
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    calls = Counter(node.op_type for node in nodes if node.domain == "edgeport")
    assert calls == {"DIAttention": 2, "DIFeedForward": 2, "DIRmsNormWide": 1, "DIMatMul": 1}


@pytest.mark.parametrize("march", ["x86-64-v3", "x86-64"])
def test_every_instruction_set_gives_the_same_bits(
    model: Path, compiled: Path, tmp_path_factory: pytest.TempPathFactory, march: str
) -> None:
    other = library(march, cache=compiled.parent)
    assert other != compiled
    for value, right in zip(outputs(model, other), outputs(model, compiled), strict=True):
        np.testing.assert_array_equal(value, right)


@pytest.fixture
def user_cache(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, with the session's library in it."""
    cache = tmp_path / "edgeport"
    cache.mkdir()
    (cache / compiled.name).symlink_to(compiled)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache


def test_a_language_model_steps_with_kernels(model: Path, user_cache: Path) -> None:
    with LanguageModel.open(model, kernels=True) as fused, LanguageModel.open(model) as stock:
        for ids in PIECES:
            np.testing.assert_array_equal(fused.step(ids), stock.step(ids))
    assert len(list(user_cache.iterdir())) == 1, "it was compiled again"


def test_generate_takes_kernels(
    model: Path, user_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for option in ("--kernels", "--no-kernels"):
        command = ["generate", str(model), "--prompt", "the sea", "--max-tokens", "6", option]
        assert run([*command, "--json"]) == 0
        said.append(capsys.readouterr().out.split('"prompt_tokens"')[0])
    assert said[0] == said[1]


def test_a_file_without_functions_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    make("llama-tied", folder)
    export("illm", tmp_path / "flat.onnx", checkpoint=folder, functions=False)
    with pytest.raises(UserError, match=r"flat\.onnx has no function that there is a compiled"):
        LanguageModel.open(tmp_path / "flat.onnx", kernels=True)


def test_names_are_those_of_the_sources() -> None:
    assert {"DIAttention", "DIFeedForward", "DIMatMul", "DIRmsNorm"} <= kernel_names()


def test_what_is_missing_is_named(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingRequirementError, match=r"C\+\+ compiler; no-such-compiler not foun"):
        library()
    monkeypatch.delenv("CXX")
    with pytest.raises(EdgeportError, match=r"does not compile the kernels:[\s\S]*no-such-cpu"):
        library("no-such-cpu", cache=tmp_path)
    monkeypatch.setenv("ONNXRUNTIME_INCLUDE", str(tmp_path))
    with pytest.raises(MissingRequirementError, match=r"need onnxruntime_cxx_api.h of ONNX Runt"):
        library(NATIVE)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_library_is_named(model: Path, tmp_path: Path) -> None:
    from runtimes.ort import cpu

    (tmp_path / "kernels.so").write_bytes(b"no library")
    with pytest.raises(MissingRequirementError, match=r"not take the kernels in .*kernels\.so"):
        cpu().load(model, kernels=tmp_path / "kernels.so")
