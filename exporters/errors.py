"""Errors that a user can act on, and the exit codes they end in.

Every message says what failed, where, why, and (as ``fix``) what to type or change next. The
command line prints them as one line; the library raises them as ordinary exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_VERDICT_FAIL = 1
EXIT_USER = 2
EXIT_ENVIRONMENT = 3
EXIT_BUG = 4
EXIT_INTERRUPTED = 130


class EdgeportError(Exception):
    """Base of all errors that edgeport raises on purpose.

    Attributes:
        fix: the next command to type or thing to change; empty when there is none to give.
        exit_code: what the command line returns to the shell.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}. {self.fix}" if self.fix else self.message


class UserError(EdgeportError):
    """Your arguments, files or data: bad checkpoint, wrong shape, NaN samples, unknown key."""

    exit_code = EXIT_USER


class MissingRequirementError(EdgeportError):
    """Something is missing on this machine: a library, a device, disk space, a permission."""

    exit_code = EXIT_ENVIRONMENT


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """One sentence that names the nearest known word, or lists all of them.

    >>> did_you_mean("flashoc-m0", ["flashocc-m0", "flashocc-m1"])
    "Did you mean 'flashocc-m0'?"
    """
    words = sorted(known)
    near = difflib.get_close_matches(wrong, words, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(words)}"
