"""Loops that a metric cannot avoid, compiled by numba when they are first needed.

A kernel is an ordinary Python function over arrays: readable, and runnable without numba where a
test wants the two compared. What numba makes of it is kept beside the source, or in the user's
cache folder where the package may not be written to; where neither may, it is compiled anew in
every process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from exporters.errors import MissingRequirementError

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """``kernel`` as machine code; it may call numpy and nothing else.

    Raises:
        MissingRequirementError: numba is not installed.
    """
    return cast(Kernel, _compiled(kernel))


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    try:
        from numba import njit
    except ImportError as error:
        raise MissingRequirementError(
            f"numba is not installed, which {kernel.__module__} needs",
            fix="pip install 'edgeport[metrics]'",
        ) from error
    try:
        return cast(Callable[..., Any], njit(cache=True)(kernel))
    except RuntimeError:  # no folder to keep it in
        return cast(Callable[..., Any], njit(kernel))
