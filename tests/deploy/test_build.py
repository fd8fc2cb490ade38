from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from deploy import cli
from runtimes.cuda import device_problem
from tests.runtimes import models

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("build",))


def test_an_engine_and_its_passport(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.quantized_conv(), tmp_path / "m.onnx")
    output = tmp_path / "m.engine"
    arguments = ["build", str(source), "--runtime", "tensorrt", "-o", str(output)]
    assert cli.run([*arguments, "--compute-capability", "8.9"]) == 0
    captured = capsys.readouterr()
    assert "by tensorrt-rtx 1.7" in captured.out
    assert "for compute capability 8.9" in captured.out
    assert "evidence: built (nothing ran)" in captured.out
    assert "Build m.engine: build engine" in captured.err
    assert output.stat().st_size > 1000
    assert json.loads(Path(f"{output}.passport.json").read_text())["evidence"] == "built"


def test_json_is_the_passport(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.conv(np.float16), tmp_path / "m.onnx")
    output = tmp_path / "m.engine"
    target = "rtx-blackwell/trt-rtx1.7"
    assert cli.run(["build", str(source), "--target", target, "-o", str(output), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == ""
    assert result["path"] == str(output)
    assert result["compute_capabilities"] == ["12.0"]
    assert result["schema"] == "edgeport.passport/1"


def test_a_range_of_shapes_in_the_words_of_trtexec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = models.model(
        [models.node("Relu", ["x"], ["y"])],
        [("x", models.FLOAT, ["n", 4])],
        [("y", models.FLOAT, ["n", 4])],
    )
    source = models.save(proto, tmp_path / "m.onnx")
    arguments = ["build", str(source), "-o", str(tmp_path / "m.engine")]
    assert cli.run(arguments) == 2
    assert "--min-shapes x:1x4 --opt-shapes x:1x4 --max-shapes x:8x4" in capsys.readouterr().err
    ranges = ["--min-shapes", "x:1x4", "--opt-shapes", "x:2x4", "--max-shapes", "x:8x4"]
    assert cli.run([*arguments, *ranges]) == 0
    assert "input x: 1x4 .. 2x4 .. 8x4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ["--target", "jetson-orin-agx/jp6.2/trt10.4"],
            2,
            "Did you mean 'jetson-orin-agx/jp6.2/trt10.3'",
        ),
        (
            ["--target", "jetson-orin-agx/jp6.2/trt10.3"],
            3,
            "On the Jetson AGX Orin: sudo apt-get install",
        ),
        (["--opt-shapes", "y:1"], 2, "a shape is given for 'y', which is no input of the model"),
        (["--opt-shapes", "x"], 2, "'x' is no input shape"),
        (["--timing-cache", "t.cache"], 2, "times no kernels"),
        (["--strict-timing-cache"], 2, "Add --timing-cache FILE"),
        pytest.param(
            ["--strip-weights"],
            3,
            "builds no engine with --strip-weights without a GPU",
            marks=pytest.mark.skipif(not device_problem(), reason="a CUDA device is here"),
        ),
        (["--compute-capability", "8.7"], 2, "no engine for compute capability '8.7'"),
        (["--runtime", "tensort"], 2, "unknown runtime 'tensort'. Did you mean 'tensorrt'?"),
        (["--runtime", "onnxruntime"], 2, "onnxruntime builds no engine"),
    ],
)
def test_impossible_wishes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    words: str,
) -> None:
    source = models.save(models.conv(), tmp_path / "m.onnx")
    output = tmp_path / "out" / "m.engine"
    assert cli.run(["build", str(source), "-o", str(output), *options]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_an_unknown_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.shift(), tmp_path / "m.onnx")
    assert cli.run(["build", str(source), "-o", str(tmp_path / "m.engine")]) == 2
    error = capsys.readouterr().err
    assert "at node 'shift0' (BitShift)" in error
    assert "Mod(x, k)" in error


def test_an_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.conv(), tmp_path / "m.onnx")
    (tmp_path / "file").write_text("")
    assert cli.run(["build", str(source), "-o", str(tmp_path / "file" / "m.engine")]) == 3
    assert "cannot write to" in capsys.readouterr().err


def test_no_such_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["build", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.engine")]) == 2
    assert "no model file at" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_build_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    """A long chain of Convs, which keeps the builder busy for seconds after it has started."""
    source = models.save(models.conv_chain(length=800, channels=16), tmp_path / "m.onnx")
    output = tmp_path / "out" / "m.engine"
    code = (
        "import deploy.cli as c; c.COMMANDS = ('build',)\n"
        f"c.main(['build', {str(source)!r}, '-o', {str(output)!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    worker = _child_while_writing(process.pid, output.parent)
    os.kill(process.pid, sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
    assert "no half-written file was left" in said
    assert list(output.parent.iterdir()) == []
    assert _ends(worker), "the builder process is still there"


def _ends(pid: int) -> bool:
    """Whether the process is gone soon: killed, or by itself because its parent is gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def _child_while_writing(parent: int, folder: Path) -> int:
    """Wait until the command has opened its output and started its builder; its process id."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        workers = [c.pid for c in psutil.Process(parent).children() if _is_builder(c)]
        if workers and folder.exists() and any(folder.iterdir()):
            return workers[0]
        time.sleep(0.01)
    pytest.fail("the builder did not start")


def _is_builder(process: psutil.Process) -> bool:
    try:
        return "runtimes.tensorrt.worker" in " ".join(process.cmdline())
    except psutil.Error:  # it ended while we looked: the one that was asked which TensorRT is here
        return False
