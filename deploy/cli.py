"""The ``edgeport`` command: one file a command in ``deploy.commands``, in order of use.

A command is a thin shell over a Python function of the same name. Errors become one line on
stderr and the exit codes of ``exporters.errors``; with ``--json`` results go to stdout as JSON and
nothing else does.
"""

from __future__ import annotations

import importlib
import sys
import traceback

import click
import typer
from rich.console import Console

from exporters.errors import EXIT_BUG, EXIT_INTERRUPTED, EdgeportError

COMMANDS = (
    "doctor",
    "models",
    "samples",
    "export",
    "inspect",
    "quantize",
    "cast",
    "check",
    "build",
    "bench",
    "verify",
    "run",
    "report",
)

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def make_app() -> typer.Typer:
    app = typer.Typer(
        name="edgeport",
        help="Take a trained model to an edge device and prove that it still works there.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Exit codes: 0 ok, 1 verdict fail, 2 your arguments, files or data, "
        "3 environment, 4 our bug, 130 interrupted.",
    )
    app.callback()(_root)
    for name in COMMANDS:
        module = importlib.import_module(f"deploy.commands.{name}")
        app.command(name)(module.command)
    return app


def _root() -> None:
    """Take a trained model to an edge device and prove that it still works there."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with an honest code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code.

    ``standalone_mode=False`` hands click's own exceptions to us, so that usage errors, our errors
    and bugs all end in one line and one code.
    """
    verbose = "--verbose" in argv
    try:
        result = typer.main.get_command(make_app()).main(
            [arg for arg in argv if arg != "--verbose"], prog_name="edgeport", standalone_mode=False
        )
    except EdgeportError as error:
        stderr.print(f"edgeport: {error}", markup=False)
        if verbose:
            stderr.print(traceback.format_exc(), markup=False)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        stderr.print("edgeport: interrupted; no half-written file was left")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last fence: a bug must still end in a sentence
        stderr.print(f"edgeport: internal error: {type(error).__name__}: {error}", markup=False)
        stderr.print("This is our bug. Run again with --verbose and report the traceback.")
        if verbose:
            stderr.print(traceback.format_exc(), markup=False)
        return EXIT_BUG
    return result if isinstance(result, int) else 0
