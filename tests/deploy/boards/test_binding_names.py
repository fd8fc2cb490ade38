"""Every TensorRT name that the runner on a board uses, looked up in NVIDIA's bindings.

The names are read from the runner's own sources, so none can be forgotten. What such a look-up is
worth: see ``tests/runtimes/tensorrt/test_bindings.py``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from deploy.boards.onboard import building, sessions, wishes
from tests.runtimes.tensorrt.test_bindings import Bindings, bindings, version

__all__ = ["bindings", "version"]  # fixtures

_HANDLES = {
    *("trt", "_trt", "flags", "builder", "parser", "network", "config", "profile", "refitter"),
    *("_engine", "_context", "_runtime"),
}
"""Variables and attributes that hold TensorRT's modules and objects."""
_PYTHONS = {"__init__", "__name__", "__version__"}


def names_of(source: str) -> set[str]:
    """Attributes of handles, and of what their calls and attributes give.

    >>> sorted(names_of("parser.get_error(i).desc(); log.write('x')"))
    ['desc', 'get_error']
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _is_handle(node.value):
            found.add(node.attr)
    return found - _PYTHONS - _HANDLES


def _is_handle(node: ast.expr) -> bool:
    while True:
        if isinstance(node, ast.Attribute):
            if node.attr in _HANDLES:
                return True
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return isinstance(node, ast.Name) and node.id in _HANDLES


def runners_names() -> set[str]:
    files = [Path(str(module.__file__)) for module in (building, wishes, sessions)]
    names = set().union(*(names_of(file.read_text()) for file in files))
    return names | {flag for _, flag, _ in wishes._FLAGS}


def test_names_are_found_where_they_are_used() -> None:
    names = runners_names()
    assert {"Builder", "set_flag", "execute_async_v3", "refit_from_file", "STRIP_PLAN"} <= names
    assert "write" not in names
    assert len(names) > 40


def test_every_name_of_the_runner_exists(version: str, bindings: Bindings) -> None:
    missing = {name for name in runners_names() if name not in bindings}
    assert missing == set(), f"TensorRT {version} does not have them"


def test_the_installed_tensorrt_rtx_has_them_too() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    owners = [vars(owner) for owner in vars(trt).values() if isinstance(owner, type)]
    known = set(vars(trt)).union(*owners)
    assert runners_names() - known == set()
