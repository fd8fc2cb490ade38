"""One browser for all tests of the report, and the page that most of them open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.report import render
from tests.deploy.report import browser
from tests.deploy.report.browser import Browser
from tests.deploy.report.drawn import SHAPE, SMALL, open_page
from tests.deploy.report.fixture import disturbed, full_report, scene, street


@pytest.fixture(scope="session")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full report; its scenes are a piece of the street and a smaller one."""
    small = street(shape=SMALL)
    extra = [scene("small", {"fp32": (small, ""), "int8": (disturbed(small, 0.05, 1), "")}, [])]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(full_report(extra_scenes=extra, shape=SHAPE)))
    return path


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if browser.missing():
        pytest.skip(browser.missing())
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desk(window: Browser, report_page: Path) -> Iterator[Browser]:
    """The page freshly opened on a desk-sized screen; afterwards no error may be in the console."""
    window.set_screen(1280, 900)
    window.set_colour_scheme("light")
    open_page(window, report_page)
    yield window
    assert [entry["message"] for entry in window.console()] == []
