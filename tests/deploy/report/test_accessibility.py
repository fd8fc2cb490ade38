"""axe-core finds nothing to object to: both pages, light and dark, on a desk and on a phone.

axe-core (Deque Systems, MPL-2.0) is the engine behind most accessibility checks; it comes from the
wheel of axe-playwright-python, of which nothing else is used, and runs in the page by WebDriver.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from deploy.report.quantization import write_quantization_report
from tests.deploy.report.browser import Browser
from tests.deploy.report.drawn import open_page
from tests.deploy.report.fixture_parts import quantization

AXE = "axe_playwright_python"
FOUND = importlib.util.find_spec(AXE)

pytestmark = pytest.mark.skipif(
    FOUND is None, reason="no axe-core; pip install --no-deps axe-playwright-python==0.1.8"
)

RUN = """
return axe.run(document, {resultTypes: ["violations", "incomplete"]}).then(found => ({
  version: found.testEngine.version,
  passes: found.passes.length,
  violations: found.violations.map(rule => [
    rule.id, rule.help, rule.nodes.map(node => `${node.html.slice(0, 160)}: ${node.failureSummary}`)
  ]),
}))
"""


def source() -> str:
    assert FOUND is not None
    assert FOUND.submodule_search_locations is not None
    return (Path(FOUND.submodule_search_locations[0]) / "axe.min.js").read_text()


def checked(window: Browser) -> dict[str, Any]:
    window.run(source())
    found: dict[str, Any] = window.run(RUN)
    return found


@pytest.fixture(scope="module")
def quantization_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("axe") / "quantization.html"
    return write_quantization_report(quantization()[0], path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["report", "quantization"])
@pytest.mark.slow
def test_nobody_is_left_out(
    window: Browser,
    report_page: Path,
    quantization_page: Path,
    page: str,
    width: int,
    scheme: str,
) -> None:
    window.set_screen(width, 900, mobile=width < 600)
    window.set_colour_scheme(scheme)
    if page == "report":
        open_page(window, report_page)
    else:
        window.open(quantization_page)
    # what is folded away is looked at, too
    window.run("for (const one of document.querySelectorAll('details')) one.open = true;")
    found = checked(window)
    assert found["passes"] > 15, "it has looked at the page"
    assert found["violations"] == []


def test_it_would_find_something(window: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<html><body><img src="data:,"><p style="color:#bbb;background:#fff">pale</p></body></html>'
    )
    window.open(page)
    rules = {rule for rule, *_ in checked(window)["violations"]}
    assert {"image-alt", "color-contrast", "html-has-lang", "document-title"} <= rules
