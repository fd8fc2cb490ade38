"""The report: one self-contained HTML page, drawn from a bundle's ``report.json`` alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.report.rendering import render, write_report

__all__ = ["render", "write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("deploy.report.rendering"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
