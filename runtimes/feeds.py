"""Checking what a caller feeds a session, before a runtime fails in its own words."""

from __future__ import annotations

from collections.abc import Sequence

from exporters.errors import UserError, did_you_mean
from runtimes.base import Feeds, TensorInfo


def check_feeds(inputs: Sequence[TensorInfo], feeds: Feeds) -> None:
    """Compare ``feeds`` with what the model takes.

    Raises:
        UserError: an input is missing or unknown, or has another dtype or shape; the first
            difference is named with both sides.
    """
    known = {info.name: info for info in inputs}
    for name in feeds:
        if name not in known:
            raise UserError(f"the model has no input {name!r}", fix=did_you_mean(name, known))
    for name, info in known.items():
        if name not in feeds:
            raise UserError(
                f"input {name!r} is missing",
                fix=f"Feed {info.dtype} {_shape_text(info.shape)}",
            )
        _check_array(info, feeds[name].dtype.name, feeds[name].shape)


def _check_array(info: TensorInfo, dtype: str, shape: tuple[int, ...]) -> None:
    if dtype != info.dtype:
        raise UserError(
            f"input {info.name!r} is {dtype}, the model takes {info.dtype}",
            fix=f"Convert it with .astype({info.dtype!r})",
        )
    fits = len(shape) == len(info.shape) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, info.shape, strict=True)
    )
    if not fits:
        raise UserError(
            f"input {info.name!r} has shape {_shape_text(shape)}, "
            f"the model takes {_shape_text(info.shape)}",
            fix="Prepare the sample for this model: edgeport samples SOURCE -o DIR",
        )


def _shape_text(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"
