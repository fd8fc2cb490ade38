"""The last section of docs/bring-your-own.md works as it stands, and its tables are true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.qdq.policies import common
from deploy.cli import run

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own.md"


def section() -> str:
    return PAGE.read_text().split("## 6. An ONNX from elsewhere")[1]


@pytest.mark.slow
def test_the_example_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = re.search(r"```python\n(# detector\.py.*?)```", section(), re.DOTALL)
    assert program is not None
    (tmp_path / "detector.py").write_text(program[1])
    subprocess.run([sys.executable, "detector.py"], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(c)[1:] for c in re.findall(r"^    (edgeport .*)$", section(), re.M)]
    assert [command[0] for command in commands] == ["quantize", "verify"]
    for command in commands:
        assert run(command) == 0, command
    assert "3 of 3 Conv in INT8" in capsys.readouterr().out


def test_the_reasons_are_those_that_the_report_gives() -> None:
    for op_type in ("LSTM", "GRU", "RNN"):
        assert common._WITHOUT_INTEGER_FORM[op_type] in section()
        assert op_type in section()
    assert "no Q/DQ form that runtimes fuse" in common._WITHOUT_INTEGER_FORM["Einsum"]
    assert "no Q/DQ form that runtimes fuse" in common._WITHOUT_INTEGER_FORM["DeformConv"]
