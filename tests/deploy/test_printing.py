"""What --print-python and --print-recipe print does the same as the command, byte for byte."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from deploy.cli import run
from exporters.files import sha256_file
from runtimes import get

from .conftest import Mini


@pytest.fixture
def place(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, target in (("m.onnx", mini.fp32), ("c", mini.calibration), ("e", mini.evaluation)):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "m.int8.onnx").symlink_to(mini.int8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(line: str, how: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run([*shlex.split(line), f"--print-{how}"]) == 0
    return capsys.readouterr().out


def made_by_python(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the printed program; what it prints."""
    program = printed(line, "python", capsys)
    exec(compile(program, line, "exec"), {"__name__": "printed"})
    return capsys.readouterr().out


def made_by_recipe(line: str, capsys: pytest.CaptureFixture[str]) -> Path:
    """Run the printed recipe; its bundle. A recipe that judges nothing has no evidence: 1."""
    Path("recipe.yaml").write_text(printed(line, "recipe", capsys))
    assert run(["run", "recipe.yaml", "-o", "bundle"]) == 1
    assert "verdict: no evidence" in capsys.readouterr().out
    return Path("bundle")


def test_an_export(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "export flashocc-nano --seed 3 -o made.onnx"
    made_by_python(line, capsys)
    by_python = sha256_file(place / "made.onnx")
    assert sha256_file(made_by_recipe(line, capsys) / "models" / "fp32.onnx") == by_python
    assert run([*shlex.split(line), "--overwrite"]) == 0
    assert sha256_file(place / "made.onnx") == by_python


def test_a_quantization(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "quantize m.onnx --samples c --policy onnxruntime --scales minmax "
        "--keep-float occ_head --report made.json -o made.onnx"  # a run measures layers too
    )
    made_by_python(line, capsys)
    by_python = sha256_file(place / "made.onnx")
    bundle = made_by_recipe(line, capsys)
    assert sha256_file(bundle / "models" / "int8-onnxruntime.onnx") == by_python
    assert run([*shlex.split(line), "--overwrite"]) == 0
    assert sha256_file(place / "made.onnx") == by_python


def test_a_cast(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "cast m.onnx --keep-float occ_head -o made.onnx"
    assert "'to': 'fp16'" in made_by_python(line, capsys)
    by_python = sha256_file(place / "made.onnx")
    assert run([*shlex.split(line), "--overwrite"]) == 0
    assert sha256_file(place / "made.onnx") == by_python
    capsys.readouterr()
    assert run([*shlex.split(line), "--print-recipe"]) == 2
    assert "m.onnx is there already" in capsys.readouterr().err


def test_a_recipe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is understood it is read again, and understood in the same way."""
    nothing = "quantization: null\nverify: null\nbenchmark: null\n"
    Path("short.yaml").write_text(f"model: {{file: m.onnx}}\n{nothing}")
    line = "run short.yaml -o bundle"
    whole = printed(line, "recipe", capsys)
    assert "seed: 0" in whole
    Path("whole.yaml").write_text(whole)
    assert printed("run whole.yaml -o bundle", "recipe", capsys) == whole
    with pytest.raises(SystemExit) as ended:
        made_by_python(line, capsys)
    assert ended.value.code == 1, "nothing was judged"
    assert (place / "bundle" / "report.html").is_file()


def test_a_comparison(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = 'verify m.onnx m.int8.onnx --samples e --require "agreement>=0.01"'
    with pytest.raises(SystemExit) as ended:
        made_by_python(line, capsys)
    assert ended.value.code == run(shlex.split(line)) == 0
    assert run([*shlex.split(line), "--print-recipe"]) == 2
    assert "m.onnx is there already" in capsys.readouterr().err


def test_a_benchmark(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "bench m.onnx m.int8.onnx --samples e --runs 6 --warmup 1 --threads 1"
    assert "'name': 'm.int8.onnx'" in made_by_python(line, capsys)
    bundle = made_by_recipe(line.replace(" m.int8.onnx", ""), capsys)
    assert (bundle / "stages" / "benchmark.json").is_file()
    assert run([*shlex.split(line), "--print-recipe"]) == 2
    assert "a recipe times the files that it makes" in capsys.readouterr().err


@pytest.mark.skipif(not get("tensorrt").probe().can_build, reason="no TensorRT here to build with")
def test_a_build(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "build m.onnx --optimization-level 0 -o made.engine"
    assert "engine_sha256" in made_by_python(line, capsys)
    assert (place / "made.engine").is_file()
    assert run([*shlex.split(line), "--print-recipe"]) == 2
    assert "--optimization-level cannot be said in a recipe" in capsys.readouterr().err
    plain = printed("build m.onnx -o made.engine", "recipe", capsys)
    Path("recipe.yaml").write_text(plain)
    assert run(["run", "recipe.yaml", "-o", "bundle"]) == 0, "an engine that was asked for"
    assert (place / "bundle" / "engines" / "fp32.tensorrt.engine").is_file()


@pytest.mark.parametrize(
    ("line", "how", "words"),
    [
        ("bench m.onnx --energy 5", "python", "--energy cannot be said in Python of a few lines"),
        ("verify m.onnx m.onnx --samples e --jobs 2", "python", "--jobs cannot be said in"),
        (
            "quantize m.onnx --samples c -o q --quantize-also h",
            "recipe",
            "--quantize-also cannot be",
        ),
    ],
)
def test_what_cannot_be_said_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], line: str, how: str, words: str
) -> None:
    assert run([*shlex.split(line), f"--print-{how}"]) == 2
    assert words in capsys.readouterr().err
