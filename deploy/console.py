"""How every command speaks: progress, text and tables for people, one JSON object for programs.

    out = Output(json=json)
    with out.progress("Quantize") as progress:      # stderr: bars in a terminal, else plain lines
        quantize(..., progress=progress)            # progress(phase, done, total); total 0: unknown
    out.say("wrote m.int8.onnx")                    # stdout
    out.table("Latency", ["file", "p50 ms"], rows)  # stdout; numbers stand on the right
    out.result(result)                              # stdout, and only with --json

With ``--json`` nothing but ``result`` reaches stdout and no progress is drawn, so that
``edgeport … --json | jq`` always works; with ``--quiet`` there is no progress either. Nothing here
interprets rich markup: file and node names may hold brackets.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from pathlib import PurePath
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

ProgressCallback = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; ``total`` is 0 where nobody knows it."""

_PIPE_WIDTH = 250  # columns where stdout is no terminal: wide enough that no table row is cut
_PLAIN_SECONDS = 10.0  # between two plain progress lines of one phase


QUIET: ContextVar[bool] = ContextVar("edgeport_quiet", default=False)
"""Draw no progress; set by ``--quiet``, which may stand anywhere on a command line."""


class PipeClosedError(Exception):
    """The reader of stdout went away, as ``edgeport models | head -1`` does."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit with 1, which is our code for a failed verdict
        raise PipeClosedError


class Output:
    """One command's voice. See the module docstring for its use.

    Args:
        json: print ``result`` as JSON on stdout and nothing else there.
        stdout, stderr: streams to write to; the process's own where None.
    """

    def __init__(
        self, *, json: bool = False, stdout: IO[str] | None = None, stderr: IO[str] | None = None
    ) -> None:
        self.json = json
        self._stdout = _console(stdout or sys.stdout)
        self._stderr = _console(stderr or sys.stderr)

    def say(self, text: str = "") -> None:
        """One line for a person; silent with ``--json``."""
        if not self.json:
            self._stdout.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One line on stderr, with ``--json`` too: for a person, no program reads it."""
        self._stderr.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for a person; silent with ``--json``. None is printed as an en dash."""
        if self.json:
            return
        if title:
            self.say(title)  # not as the table's own title, which wraps at the table's width
        table = Table(box=None)
        for index, column in enumerate(columns):
            numeric = all(_is_number(row[index]) for row in rows) and bool(rows)
            table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell(value)) for value in row))
        self._stdout.print(table)

    def result(self, value: object) -> None:
        """The command's result as one JSON object on stdout; silent without ``--json``."""
        if self.json:
            self._stdout.file.write(dump_json(value) + "\n")
            self._flush()

    def _flush(self) -> None:
        try:
            self._stdout.file.flush()
        except BrokenPipeError as error:
            raise PipeClosedError from error

    @contextmanager
    def progress(self, title: str) -> Iterator[ProgressCallback]:
        """Yield a callback ``progress(phase, done, total)`` that draws on stderr."""
        if self.json or QUIET.get():
            yield _silent
        elif self._stderr.is_terminal:
            with _bars(self._stderr, title) as callback:
                yield callback
        else:
            yield _PlainProgress(title, self.note)


def _console(stream: IO[str]) -> Console:
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False)


def _is_number(value: object) -> bool:
    return value is None or (
        isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    )


def cell(value: object) -> str:
    """What a table shows for ``value``: floats with four significant digits, None as a dash.

    >>> [cell(v) for v in (None, True, 3, 12.34567, 1234567.0, float("nan"))]
    ['–', 'yes', '3', '12.35', '1234567', 'nan']
    """
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"
    return str(value.value if isinstance(value, Enum) else value)


def plain(value: object) -> Any:
    """``value`` with dataclasses, numpy, paths and enums as JSON types; NaN and ±inf are None.

    JSON has no NaN, and a program that reads ours should not need a special parser.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def dump_json(value: object) -> str:
    return jsonlib.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _silent(phase: str, done: int, total: int) -> None:
    """Progress with ``--json`` or ``--quiet``: nothing."""


@contextmanager
def _bars(console: Console, title: str) -> Iterator[ProgressCallback]:
    """One bar a phase; a phase with an unknown total pulses."""
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=console) as bars:

        def callback(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                label = f"{title}: {phase}" if phase else title
                tasks[phase] = bars.add_task(label, total=None)
            elif done < bars.tasks[tasks[phase]].completed:
                bars.reset(tasks[phase])  # the same phase of the next file
            bars.update(tasks[phase], completed=done, total=total or None)

        yield callback


class _PlainProgress:
    """Progress in a log file: a line when a phase ends, and every ten seconds before that.

    A phase begins where the last call for another one ended; one that has ended may begin again.
    """

    def __init__(self, title: str, write: Callable[[str], None]) -> None:
        self._title = title
        self._write = write
        self._called_s = time.monotonic()
        self._started_s: dict[str, float] = {}
        self._written_s: dict[str, float] = {}
        self._ended: dict[str, int] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        now, last = time.monotonic(), self._called_s
        self._called_s = now
        if done < self._ended.get(phase, 0):
            for known in (self._started_s, self._written_s, self._ended):
                del known[phase]
        started = self._started_s.setdefault(phase, last)
        written = self._written_s.setdefault(phase, started)
        label = f"{self._title}: {phase}" if phase else self._title
        if total and done >= total:
            if phase not in self._ended:
                self._ended[phase] = done
                self._write(f"{label} {done}/{total} in {now - started:.1f} s")
        elif now - written >= _PLAIN_SECONDS:
            self._written_s[phase] = now
            left = f", about {(now - started) * (total - done) / done:.0f} s left" if done else ""
            self._write(f"{label} {done}/{total}{left}" if total else f"{label} {done}")
