"""The ``edgeport`` command: one file a command in ``deploy.commands``, in order of use.

A command is a thin shell over a Python function of the same name. Whatever goes wrong ends in one
line on stderr and one of these codes; ``--verbose`` adds the traceback.

| code | meaning                                                                     |
|------|-----------------------------------------------------------------------------|
| 0    | done                                                                        |
| 1    | done, and the verdict is fail (no evidence is a fail)                       |
| 2    | your arguments, files or data                                               |
| 3    | environment: a library, a device, disk space, memory, a permission          |
| 4    | our bug                                                                     |
| 130  | interrupted; 141 and 143 as the shell has them for a closed pipe and a kill |
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.console import QUIET, PipeClosedError
from deploy.grouped_help import GroupedCommand
from deploy.printing import PRINTED, with_printing
from exporters.errors import (
    EXIT_BUG,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USER,
    EdgeportError,
)

COMMANDS = (
    "doctor",
    "models",
    "samples",
    "smooth",
    "export",
    "inspect",
    "sensitivity",
    "quantize",
    "cast",
    "check",
    "build",
    "dla-scales",
    "bench",
    "verify",
    "plan",
    "schema",
    "run",
    "judge",
    "report",
    "rebuild",
    "diff",
    "sign",
    "emit-cpp",
    "generate",
)

EXIT_PIPE_CLOSED = 128 + 13  # SIGPIPE
EXIT_TERMINATED = 128 + 15  # SIGTERM

_ENVIRONMENT_ERRNOS = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM}

# typer 0.15 uses click, later ones carry a copy of it: this is the base class of either
_UsageError: type[Any] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


class _Terminated(BaseException):
    """SIGTERM, raised as an exception so that temporary files are removed."""


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with the commands ``names``; importing what all need takes half a second."""
    app = typer.Typer(
        name="edgeport",
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Exit codes: 0 ok, 1 verdict fail, 2 your arguments, files or data, "
        "3 environment, 4 our bug, 130 interrupted.",
    )
    app.callback(invoke_without_command=True)(_root)
    for name in names:
        module = importlib.import_module(f"deploy.commands.{name.replace('-', '_')}")
        command = module.command
        if name in PRINTED:
            command = with_printing(name, command)
        app.command(name, cls=GroupedCommand)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeport {metadata.version('edgeport')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Print tracebacks of errors; may stand anywhere."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no progress; may stand anywhere.")
    ] = False,
) -> None:
    """Take a trained model to an edge device and prove that it still works there."""
    del version, verbose, quiet  # the first ends in its callback, ``run`` takes out the others
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with an honest code."""
    signal.signal(signal.SIGTERM, _raise_terminated)
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def _raise_terminated(*_: object) -> None:
    raise _Terminated


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    verbose = "--verbose" in argv
    token = QUIET.set("--quiet" in argv)
    try:
        code = _invoke([arg for arg in argv if arg not in ("--verbose", "--quiet")])
        sys.stdout.flush()
    except (PipeClosedError, BrokenPipeError):
        # what is still buffered must not raise again when Python closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except (Exception, KeyboardInterrupt, _Terminated) as error:
        code, line = _explain(error)
        _say(f"edgeport: {' '.join(line.split())}")
        if verbose:
            _say(traceback.format_exc())
    finally:
        QUIET.reset(token)
    return code


def _invoke(argv: list[str]) -> int:
    """Run the typer app; its own exceptions, and 130 for Ctrl-C, come back to us."""
    wanted = [name for name in argv[:1] if name in COMMANDS] or COMMANDS
    result = typer.main.get_command(make_app(wanted)).main(
        argv, prog_name="edgeport", standalone_mode=False
    )
    code = result if isinstance(result, int) else EXIT_OK
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line that ``error`` ends in."""
    if isinstance(error, EdgeportError):
        return error.exit_code, str(error)
    if isinstance(error, _UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "edgeport"
        message = str(error.format_message()).rstrip(".")
        return EXIT_USER, f"{message}. See: {command} --help"
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return EXIT_INTERRUPTED, "interrupted; no half-written file was left"
    if isinstance(error, _Terminated):
        return EXIT_TERMINATED, "terminated; no half-written file was left"
    if isinstance(error, MemoryError):
        return EXIT_ENVIRONMENT, "out of memory. Use fewer threads or a smaller model"
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRNOS:
        where = f": {error.filename}" if error.filename else ""
        return EXIT_ENVIRONMENT, f"{error.strerror}{where}. Free the space or change the path"
    return EXIT_BUG, (
        f"internal error: {type(error).__name__}: {error}. "
        "This is our bug; run again with --verbose and report the traceback"
    )


def _say(text: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(text, markup=False)
