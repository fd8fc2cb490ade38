"""The page in a real browser: everyone can use it, and it asks nobody for anything."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.report import render
from tests.deploy.report import browser
from tests.deploy.report.browser import Browser
from tests.deploy.report.drawn import READY, SHAPE, from_above, open_page, picture_of, settle
from tests.deploy.report.fixture import CLASSES, full_report, street


def test_both_panes_turn_together_by_mouse_and_keys(desk: Browser) -> None:
    def pictures() -> list[NDArray[np.uint8]]:
        settle(desk)
        # a moving view may be coarse; at rest it is drawn at two pixels a CSS pixel again
        desk.wait_for(
            "[...document.querySelectorAll('#voxels canvas')]"
            ".every(c => c.width === Math.round(c.clientWidth * 2))"
        )
        return [picture_of(desk, "#voxels canvas", index) for index in range(2)]

    first = pictures()
    desk.run("document.querySelector('#voxels canvas').focus()")
    desk.press("ArrowLeft", "ArrowLeft", "ArrowUp", "+")
    turned = pictures()
    assert all((a != b).mean() > 0.1 for a, b in zip(first, turned, strict=True))
    desk.press("0")
    assert all(np.array_equal(a, b) for a, b in zip(first, pictures(), strict=True))
    box = desk.run(
        """const pane = document.querySelectorAll("#voxels canvas")[1];
        pane.scrollIntoView({block: "center", behavior: "instant"});
        const box = pane.getBoundingClientRect(); return [box.x + 50, box.y + 50]"""
    )
    for kind, offset in (("mousePressed", 0), ("mouseMoved", 90), ("mouseReleased", 90)):
        desk.devtools(
            "Input.dispatchMouseEvent",
            type=kind,
            x=box[0] + offset,
            y=box[1],
            button="left",
            buttons=1,
            clickCount=1,
        )
    assert all((a != b).mean() > 0.1 for a, b in zip(first, pictures(), strict=True))


def test_a_cell_of_the_map_can_be_read_by_keyboard(desk: Browser) -> None:
    desk.run("document.querySelector('#birdseye canvas').focus()")
    desk.press("ArrowUp", "ArrowLeft")
    reading = desk.run("return document.getElementById('birdseye-reading').textContent")
    label = from_above(street(shape=SHAPE))[37, 31]
    assert reading.startswith("0.6 m ahead, 0.6 m left: FP32 ")
    assert CLASSES[label].replace("_", " ") in reading
    desk.press("Escape")
    assert desk.run("return document.getElementById('birdseye-reading').textContent") == ""


def test_the_theme_follows_the_system_until_it_is_chosen(desk: Browser, report_page: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = desk.run(ground)
    desk.set_colour_scheme("dark")
    dark = desk.run(ground)
    assert light != dark
    desk.wait_for("document.getElementById('theme').textContent === 'Light'")
    desk.run("document.getElementById('theme').click()")
    assert desk.run(ground) == light
    desk.open(report_page)  # the choice is remembered
    assert desk.run(ground) == light
    desk.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_overflows_a_narrow_screen(window: Browser, report_page: Path, width: int) -> None:
    window.set_screen(width, 844, mobile=True, scale=2)
    open_page(window, report_page)
    window.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    wide, inner = window.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == width
    kinds = window.run(
        """return [...document.querySelectorAll("svg.chart")]
        .filter(svg => svg.getBoundingClientRect().height > 0).map(svg => svg.classList[1])"""
    )
    assert set(kinds) == {"wide" if width == 768 else "narrow"}
    assert window.console() == []


def test_tables_sort_and_lists_filter(desk: Browser) -> None:
    column = "return [...arguments[0].tBodies[0].rows].map(r => r.cells[arguments[1]].textContent)"
    script = f"""const table = [...document.querySelectorAll("table.sortable")]
        .find(t => t.caption.textContent === "Agreement by class");
        table.tHead.querySelectorAll("button")[arguments[0]].click();
        return (function () {{ {column} }})(table, arguments[1]);"""
    counts = [int(text.replace(",", "")) for text in desk.run(script, 1, 1)]
    assert counts == sorted(counts, reverse=True)
    counts = [int(text.replace(",", "")) for text in desk.run(script, 1, 1)]
    assert counts == sorted(counts)
    names = desk.run(script, 0, 0)
    assert names == sorted(names)
    found = desk.run(
        """const block = document.querySelector(".filterable");
        block.open = true;
        const input = block.querySelector("input");
        input.value = "softmax depth"; input.dispatchEvent(new Event("input"));
        return [block.querySelector(".found").textContent,
                block.querySelectorAll("tbody tr:not([hidden])").length]"""
    )
    assert found == ["1 of 14 nodes", 1]


def test_everything_can_be_reached_and_is_named(desk: Browser) -> None:
    problems = desk.run(
        """const named = (e) => e.ariaLabel || e.getAttribute("aria-labelledby") || e.alt
          || e.textContent.trim() || e.labels?.length;
        return [...document.querySelectorAll("button, input, select, a, img, canvas, svg, summary")]
          .filter(e => !e.closest("[aria-hidden=true]") && !named(e)).map(e => e.outerHTML)"""
    )
    assert problems == []
    assert desk.run(
        "return [...document.querySelectorAll('canvas')].every(canvas => canvas.tabIndex === 0)"
    )
    levels = desk.run(
        """return [...document.querySelectorAll("h1, h2, h3, h4")].map(h => Number(h.tagName[1]))"""
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    # frames that scroll take part in the tab order
    assert desk.run(
        """return [...document.querySelectorAll(".scroll")]
        .every(f => f.scrollWidth <= f.clientWidth + 1 || f.tabIndex === 0)"""
    )


CONTRAST = """
const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data];
};
const light = (c) => {
  const [r, g, b] = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (e) => {
  for (let at = e; at; at = at.parentElement) {
    const c = rgba(getComputedStyle(at).backgroundColor);
    if (c[3] === 255) return c;
  }
  return [255, 255, 255, 255];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !e.getClientRects().length) continue;
  if (e.closest("script, style, option, .visually-hidden, title")) continue;
  const style = getComputedStyle(e);
  const ink = light(rgba(e instanceof SVGElement ? style.fill : style.color));
  const back = light(ground(e));
  const ratio = (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
  if (ratio < 4.5) low.push([ratio.toFixed(2), walker.currentNode.textContent.trim().slice(0, 40)]);
}
return low;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(desk: Browser, scheme: str) -> None:
    desk.set_colour_scheme(scheme)
    desk.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert desk.run(CONTRAST) == []


def test_printing_opens_what_is_closed_and_closes_it_again(desk: Browser) -> None:
    opened = """window.most = 0; addEventListener("beforeprint", () => {
        window.most = document.querySelectorAll("details[open]").length; });
        const count = (which) => document.querySelectorAll(which).length;
        return [count("details"), count("details[open]")]"""
    count, before = desk.run(opened)
    assert desk.pdf().startswith(b"%PDF")
    assert desk.run("return window.most") == count > before
    assert desk.run("return document.querySelectorAll('details[open]').length") == before


def test_the_browser_asked_nobody_for_anything(desk: Browser) -> None:
    assert desk.run("return performance.getEntriesByType('resource').map(e => e.name)") == []


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_without_webgl_a_sentence_and_the_maps_remain(tmp_path: Path, report_page: Path) -> None:
    with Browser(tmp_path, flags=("--disable-3d-apis",)) as window:
        window.open(report_page)
        window.wait_for(READY)
        text = window.run("return document.querySelector('.statement').textContent")
        assert "No 3-D view: this browser offers no WebGL 2" in text
        assert window.run("return document.querySelectorAll('#voxels canvas').length") == 0
        assert (picture_of(window, "#birdseye canvas")[..., 3] > 0).mean() > 0.5
        severe = [entry for entry in window.console() if entry["level"] == "SEVERE"]
        assert severe == []


def test_hostile_names_run_nothing(window: Browser, tmp_path: Path) -> None:
    report: dict[str, Any] = full_report()
    text = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    report["title"] = report["occupancy"][0]["sample"] = text
    report["occupancy"][0]["grids"][0]["name"] = text
    report["occupancy"][0]["grids"][0]["note"] = text
    report["model"]["classes"][4] = text
    page = tmp_path / "hostile.html"
    page.write_text(render(report))
    window.set_screen(1280, 900)
    window.open(page)
    window.wait_for(READY)
    window.run("document.querySelector('#birdseye canvas').focus()")
    window.press("ArrowUp")
    assert window.run("return window.hacked") is None
    assert window.run("return document.querySelectorAll('main img').length") == 6
    assert window.console() == []
