"""Fixtures that every test directory may use, and what CI demands.

``EDGEPORT_DATA`` names the folder with real sensor data. ``EDGEPORT_CI=1`` turns a skipped test
into a failure: CI installs whatever tests need, except a GPU, a board, data that may not be
redistributed, and other tools whose packages are too many (marker ``peer``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs deaf to Ctrl-C, and every child inherits that. Tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("edgeport", deadline=None, derandomize=True)
settings.load_profile("edgeport")

DATA_VARIABLE = "EDGEPORT_DATA"
IN_CI = os.environ.get("EDGEPORT_CI") == "1"


@pytest.fixture(scope="session")
def edgeport_data() -> Path:
    """The folder with real sensor data; skips where there is none."""
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        pytest.skip(f"{DATA_VARIABLE} names no folder with real sensor data")
    path = Path(root)
    if not path.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={root} is no folder")
    return path


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables come out as in a pipe, whatever terminal the tests were started from."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not _may_skip(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI installs what tests need: {reason}"
    return report


def _may_skip(item: pytest.Item) -> bool:
    if any(item.get_closest_marker(name) for name in ("gpu", "board", "peer")):
        return True
    return item.get_closest_marker("data") is not None and not os.environ.get(DATA_VARIABLE)
