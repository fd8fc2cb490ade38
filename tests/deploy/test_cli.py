"""Every way in which the command line can end has one line and one code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from deploy import cli
from deploy.cli import COMMANDS, run
from deploy.console import QUIET
from exporters.errors import EdgeportError, MissingRequirementError, UserError

ROOT = Path(__file__).parents[2]


def ends_with(
    monkeypatch: pytest.MonkeyPatch, behaviour: Callable[[], Any], *arguments: str
) -> int:
    """Run a command line whose only command does ``behaviour``."""

    def command() -> None:
        behaviour()

    monkeypatch.setattr(cli, "COMMANDS", ("doctor",))
    module = SimpleNamespace(command=command)
    monkeypatch.setitem(sys.modules, "deploy.commands.doctor", module)  # type: ignore[arg-type]
    return run(["doctor", *arguments])


def raising(error: BaseException) -> Callable[[], None]:
    def behaviour() -> None:
        raise error

    return behaviour


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no file at a", fix="Check the path"), 2, "no file at a. Check the path"),
        (MissingRequirementError("no torch"), 3, "no torch"),
        (EdgeportError("graph does not agree"), 4, "graph does not agree"),
        (OSError(28, "No space left on device", "m.onnx"), 3, "No space left on device: m.onnx"),
        (PermissionError(13, "Permission denied", "x"), 3, "Permission denied: x"),
        (MemoryError(), 3, "out of memory"),
        (KeyError("x"), 4, "internal error: KeyError: 'x'. This is our bug"),
        (KeyboardInterrupt(), 130, "interrupted; no half-written file was left"),
        (typer.Abort(), 130, "interrupted"),
        (typer.BadParameter("no such thing"), 2, "no such thing. See:"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_is_one_line_and_one_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    assert ends_with(monkeypatch, raising(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgeport: ")
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_a_message_of_several_lines_becomes_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(monkeypatch, raising(UserError("the parser says:\n  node [x] has no type\n")))
    assert capsys.readouterr().err == "edgeport: the parser says: node [x] has no type\n"


def test_quiet_may_stand_anywhere_and_ends_with_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setattr("deploy.cli._invoke", lambda argv: seen.append((argv, QUIET.get())) or 0)
    assert run(["check", "--quiet", "m.onnx"]) == run(["check", "m.onnx"]) == 0
    assert seen == [(["check", "m.onnx"], True), (["check", "m.onnx"], False)]
    assert QUIET.get() is False


def test_verbose_adds_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(monkeypatch, raising(UserError("bad")), "--verbose") == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_verdict_is_a_code_without_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(monkeypatch, raising(typer.Exit(1))) == 1
    assert ends_with(monkeypatch, lambda: None) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exprot"], "No such command 'exprot'"),
        (["export"], "Missing argument"),
        (["export", "flashocc-m0", "--outputt", "x"], "No such option: --outputt"),
        (["verify", "a", "b", "--samples", "s", "--threads", "0"], "'--threads'"),
    ],
)
def test_a_wrong_command_line_says_where_help_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("edgeport: ")
    assert words in error
    assert "See: edgeport" in error
    assert error.count("\n") == 1


def test_alone_it_prints_the_commands_in_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    text = capsys.readouterr().out
    listed = text[text.index("Commands:") :]
    positions = [listed.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert "130 interrupted" in " ".join(text.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgeport ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Usage: edgeport {name}" in text
    assert f"edgeport {name}" in text.split("Options:")[0].split("Usage:")[1][10:], "an example"
    assert "Known limit" in text
    assert "--json" in text


def edgeport(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    code = "import sys; from deploy.cli import main; main(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_command_imports_no_other() -> None:
    code = (
        "import sys; from deploy.cli import run; run(['models', '--help']); "
        "print(sorted(n for n in sys.modules if n.startswith('deploy.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['deploy.commands.models']"


def test_json_is_all_that_stands_on_stdout() -> None:
    with edgeport("models", "--json") as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "flashocc-m0" in json.dumps(json.loads(out))
    assert error == ""


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "import sys; from deploy.cli import main; main(['models'])"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write_end)
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_writing_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    script = f"""
import time, sys
from pathlib import Path
from types import SimpleNamespace
from deploy import cli
from exporters.files import written_atomically

def command() -> None:
    with written_atomically(Path({str(tmp_path / "m.onnx")!r})) as temporary:
        temporary.write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)

cli.COMMANDS = ("doctor",)
sys.modules["deploy.commands.doctor"] = SimpleNamespace(command=command)
cli.main(["doctor"])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert list(tmp_path.iterdir())
        time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert "no half-written file was left" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
