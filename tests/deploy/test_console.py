"""What commands say, to people and to programs."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from deploy.console import QUIET, Output, cell, dump_json, plain


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    where: Path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def both(*, json: bool = False, terminal: bool = False) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
    return Output(json=json, stdout=out, stderr=err), out, err


def test_json_is_strict_whatever_a_result_holds() -> None:
    value = {
        "numpy": np.float32(0.5),
        "array": np.arange(3, dtype=np.uint8),
        "nan": float("nan"),
        "inf": [float("inf"), -np.inf],
        "enum": Colour.RED,
        "point": Point(1.5, Path("a") / "b"),
        "set": {"b", "a"},
        3: None,
    }
    assert json.loads(dump_json(value)) == {
        "numpy": 0.5,
        "array": [0, 1, 2],
        "nan": None,
        "inf": [None, None],
        "enum": "red",
        "point": {"x": 1.5, "where": "a/b"},
        "set": ["a", "b"],
        "3": None,
    }
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain(object())


def test_with_json_only_the_result_is_on_stdout() -> None:
    out, stdout, stderr = both(json=True)
    with out.progress("Quantize") as progress:
        progress("observe", 1, 1)
    out.say("hello")
    out.table("t", ["a"], [[1]])
    out.result({"ok": True})
    assert json.loads(stdout.getvalue()) == {"ok": True}
    assert stderr.getvalue() == ""


def test_for_a_person_there_is_no_json() -> None:
    out, stdout, _ = both()
    out.say("wrote m[0].onnx")
    out.result({"ok": True})
    assert stdout.getvalue() == "wrote m[0].onnx\n"


def test_a_table_shows_brackets_and_puts_numbers_on_the_right() -> None:
    out, stdout, _ = both()
    out.table(
        "Latency [ms]", ["file", "p50"], [["a[/bold].onnx", 12.3456], ["b", 7.0], ["c", None]]
    )
    lines = [line.rstrip() for line in stdout.getvalue().splitlines()]
    assert lines[0] == "Latency [ms]"
    assert lines[2:] == [" a[/bold].onnx  12.35", " b                  7", " c                  –"]


def test_long_rows_are_not_cut_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out, stdout, _ = both()
    name = "img_backbone/layer4.2/conv3/Conv_output_0/and/a/very/long/path/to/it"
    out.table("", ["tensor", "node"], [[name, name]])
    assert stdout.getvalue().count(name) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (np.bool_(False), "no"), (1e6, "1000000"), (0.12345, "0.1235")],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_progress_in_a_log_is_a_line_when_a_phase_ends() -> None:
    out, _, stderr = both()
    with out.progress("Quantize") as progress:
        for done in range(17):
            progress("observe", done, 16)
        progress("observe", 16, 16)
    lines = stderr.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Quantize: observe 16/16 in ")


def test_quiet_shows_no_progress_and_keeps_the_rest() -> None:
    token = QUIET.set(True)
    try:
        out, stdout, stderr = both()
        with out.progress("Quantize") as progress:
            progress("observe", 16, 16)
        out.say("done")
    finally:
        QUIET.reset(token)
    assert (stdout.getvalue(), stderr.getvalue()) == ("done\n", "")


def test_progress_in_a_log_shows_life_in_a_long_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("deploy.console.time.monotonic", lambda: float(next(clock)))
    out, _, stderr = both()
    with out.progress("Build") as progress:
        for done in range(5):
            progress("tactics", done, 0)
    assert stderr.getvalue().splitlines() == ["Build: tactics 1", "Build: tactics 3"]


def test_a_phase_of_the_next_file_is_timed_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 1, 2, 3, 103, 115, 127])
    monkeypatch.setattr("deploy.console.time.monotonic", lambda: float(next(clock)))
    out, _, stderr = both()
    with out.progress("Quantize") as progress:
        for phase, done in [("scales", 1), ("scales", 2), ("bias", 2)]:
            progress(phase, done, 2)
        progress("layers", 9, 9)
        progress("scales", 1, 2)
        progress("scales", 2, 2)
    assert stderr.getvalue().splitlines() == [
        "Quantize: scales 2/2 in 2.0 s",
        "Quantize: bias 2/2 in 1.0 s",
        "Quantize: layers 9/9 in 100.0 s",
        "Quantize: scales 1/2, about 12 s left",
        "Quantize: scales 2/2 in 24.0 s",
    ]


def test_progress_in_a_terminal_is_a_bar_for_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, stdout, stderr = both(terminal=True)
    with out.progress("Run") as progress:
        progress("export [x]", 1, 2)
        progress("quantize", 1, 0)
    assert "Run: export [x]" in stderr.getvalue()
    assert "1/2" in stderr.getvalue()
    assert "Run: quantize" in stderr.getvalue()
    assert stdout.getvalue() == ""
