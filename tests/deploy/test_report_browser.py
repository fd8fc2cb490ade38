"""The page in a real browser: what is drawn equals numpy's answer, and everyone can use it."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.report import render
from deploy.report.palette import class_colours
from tests.deploy import browser
from tests.deploy.browser import Browser
from tests.deploy.report_fixture import (
    CLASSES,
    FREE,
    Labels,
    disturbed,
    full_report,
    minimal_report,
    noise,
    scene,
    street,
)

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

READY = "document.getElementById('scene-view').dataset.state === 'ready'"
SHAPE = (72, 60, 16)  # of most tests: WebGL in software takes seconds for a whole street
SMALL = (40, 30, 8)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full report; its scenes are a piece of the street and a smaller one."""
    small = street(shape=SMALL)
    extra = [scene("small", {"fp32": (small, ""), "int8": (disturbed(small, 0.05, 1), "")}, [])]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(full_report(extra_scenes=extra, shape=SHAPE)))
    return path


@pytest.fixture(scope="module")
def noisy_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing but what random weights predict, in full size."""
    grids = {"fp32": (noise(), ""), "int8": (disturbed(noise(), 0.02, 4), "")}
    report = minimal_report() | {"occupancy": [scene("noise", grids, [])]}
    path = tmp_path_factory.mktemp("noisy") / "report.html"
    path.write_text(render(report))
    return path


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desk(window: Browser, page: Path) -> Iterator[Browser]:
    """The page freshly opened on a desk-sized screen; afterwards no error may be in the console."""
    window.set_screen(1280, 900)
    window.set_colour_scheme("light")
    open_page(window, page)
    yield window
    assert [entry["message"] for entry in window.console()] == []


def open_page(window: Browser, page: Path) -> None:
    window.open(page)
    window.wait_for(READY)


def settle(window: Browser) -> None:
    """Two animation frames: everything that was asked for is drawn."""
    window.run(
        "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


# --- oracles in numpy ----------------------------------------------------------------------------


def exposed_faces(solid: NDArray[np.bool_]) -> int:
    padded = np.pad(solid, 1)
    return sum(
        int((padded & ~np.roll(padded, step, axis)).sum()) for axis in range(3) for step in (1, -1)
    )


def from_above(grid: Labels) -> NDArray[np.int64]:
    """The label of each column's highest voxel, ``[x, y]``; -1 where there is none."""
    solid = grid != FREE
    top = grid.shape[2] - 1 - np.argmax(solid[:, :, ::-1], axis=2)
    labels = np.take_along_axis(grid, top[..., None], axis=2)[..., 0].astype(np.int64)
    return np.where(solid.any(axis=2), labels, -1)


def statements(window: Browser) -> list[tuple[int, int]]:
    """(voxels, faces) as each 3-D pane states them."""
    texts = window.run(
        "return [...document.querySelectorAll('.statement')].map(e => e.textContent)"
    )
    numbers = [re.findall(r"[\d,]+\d", text) for text in texts]
    return [(int(n[0].replace(",", "")), int(n[1].replace(",", ""))) for n in numbers]


def picture_of(window: Browser, selector: str, index: int = 0) -> NDArray[np.uint8]:
    """A canvas as uint8 ``[h, w, 4]``, whatever drew it."""
    width, height, data = window.run(
        """const canvas = document.querySelectorAll(arguments[0])[arguments[1]];
        const copy = document.createElement("canvas");
        [copy.width, copy.height] = [canvas.width, canvas.height];
        const context = copy.getContext("2d");
        context.drawImage(canvas, 0, 0);
        const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
        let text = "";
        for (let i = 0; i < pixels.length; i += 8192)
          text += String.fromCharCode(...pixels.subarray(i, i + 8192));
        return [copy.width, copy.height, btoa(text)];""",
        selector,
        index,
    )
    flat = np.frombuffer(base64.b64decode(data), np.uint8)
    return flat.reshape(height, width, 4)


# --- what is drawn -------------------------------------------------------------------------------


def test_every_view_is_drawn(desk: Browser) -> None:
    for selector, count in (("#birdseye canvas", 4), ("#voxels canvas", 2)):
        assert desk.run("return document.querySelectorAll(arguments[0]).length", selector) == count
        for index in range(count):
            pixels = picture_of(desk, selector, index)
            assert (pixels[..., 3] > 0).mean() > 0.2
            assert len(np.unique(pixels.reshape(-1, 4), axis=0)) >= 12
    charts = desk.run(
        """return [...document.querySelectorAll("svg.chart")]
        .filter(svg => svg.getBoundingClientRect().height > 0)
        .map(svg => [svg.classList[1], svg.querySelectorAll("circle, rect").length])"""
    )
    assert [kind for kind, _ in charts] == ["wide"] * 3
    assert all(marks > 50 for _, marks in charts)


def test_the_map_shows_the_highest_voxel_of_each_column(desk: Browser) -> None:
    expected = from_above(street(shape=SHAPE))
    pixels = picture_of(desk, "#birdseye canvas")
    size = pixels.shape[0] / SHAPE[0]
    colours = [[int(c[at : at + 2], 16) for at in (1, 3, 5)] for c in class_colours(CLASSES)]
    checked = 0
    for x, y in np.random.default_rng(0).integers(0, SHAPE[:2], (600, 2)):
        row, column = int((SHAPE[0] - 0.5 - x) * size), int((SHAPE[1] - 0.5 - y) * size)
        seen = pixels[row, column, :3].astype(float)
        if expected[x, y] < 0:
            continue
        colour = np.array(colours[expected[x, y]], float)
        # relief darkens to no less than four fifths; rings and the vehicle cover some cells
        shade = seen.sum() / colour.sum()
        checked += 0.79 < shade < 1.01 and float(np.abs(seen - colour * shade).max()) < 4
    assert checked > 0.85 * (expected[expected >= 0].size / expected.size) * 600


def test_the_difference_counts_what_numpy_counts(desk: Browser) -> None:
    a = street(shape=SHAPE)
    b = disturbed(a, 0.03, 1)
    shown = (a != FREE) | (b != FREE)
    differing = int((a != b).sum())
    text = desk.run("return document.querySelectorAll('#birdseye .detail')[3].textContent")
    assert text == f"{differing:,} voxels, {differing / shown.sum() * 100:.2f} % of those shown"


def test_exactly_the_exposed_faces_are_drawn(desk: Browser) -> None:
    first = street(shape=SHAPE)
    grids = [first, disturbed(first, 0.03, 1)]
    expected = [(int((g != FREE).sum()), exposed_faces(g != FREE)) for g in grids]
    assert statements(desk) == expected


def test_hidden_classes_and_height_open_the_view(desk: Browser) -> None:
    grid = street(shape=SHAPE)
    desk.run("document.querySelector('[data-classes=users]').click()")
    settle(desk)
    users = [CLASSES.index(n) for n in ("car", "truck", "bus", "trailer", "construction_vehicle")]
    users += [CLASSES.index(n) for n in ("bicycle", "motorcycle", "pedestrian")]
    solid = np.isin(grid, users)
    assert statements(desk)[0] == (int(solid.sum()), exposed_faces(solid))
    desk.run(
        """const slider = document.getElementById("height-clip");
        slider.value = 4; slider.dispatchEvent(new Event("input"));"""
    )
    settle(desk)
    solid[:, :, 4:] = False
    assert statements(desk)[0] == (int(solid.sum()), exposed_faces(solid))
    words = desk.run("return document.getElementById('height-value').textContent")
    assert words == "0.6 m above ground"
    desk.run("document.querySelector('[data-classes=none]').click()")
    settle(desk)
    assert (picture_of(desk, "#birdseye canvas")[..., 3] > 0).mean() < 0.2  # rings and vehicle


def test_dense_noise_of_random_weights_is_drawn_whole(window: Browser, noisy_page: Path) -> None:
    window.set_screen(700, 600)
    open_page(window, noisy_page)
    grid = noise()
    assert statements(window)[0] == (int((grid != FREE).sum()), exposed_faces(grid != FREE))
    assert (picture_of(window, "#voxels canvas")[..., 3] > 0).mean() > 0.5
    assert window.console() == []


def test_faces_over_the_limit_are_left_out_from_afar_and_said_to_be(
    window: Browser, tmp_path: Path
) -> None:
    """A checkerboard exposes every face: 1,920,000 of them, the most a grid of this size can."""
    x, y, z = np.indices((200, 200, 16))
    board = np.where((x + y + z) % 2 == 0, 4, FREE).astype(np.uint8)
    report = minimal_report() | {"occupancy": [scene("board", {"fp32": (board, "")}, [])]}
    page = tmp_path / "board.html"
    page.write_text(render(report))
    window.set_screen(400, 500)
    open_page(window, page)
    voxels, faces = statements(window)[0]
    assert voxels == 320_000
    # square rings around the middle, as many as fit: 158 x 158 x 16 / 2 voxels of six faces
    assert faces == 158 * 158 * 8 * 6 <= 1_200_000 < 160 * 160 * 8 * 6
    text = window.run("return document.querySelector('.statement').textContent")
    assert "drawn of 1,920,000: only what lies within 32 m of the middle" in text
    assert "Hide classes to see farther" in text


def test_a_grid_of_another_shape_takes_its_place(desk: Browser) -> None:
    desk.run("document.querySelector('[data-scene=\"1\"]').click()")
    desk.wait_for("document.querySelectorAll('#birdseye canvas').length === 3")
    grid = street(shape=SMALL)
    assert statements(desk)[0] == (int((grid != FREE).sum()), exposed_faces(grid != FREE))
    height, width = picture_of(desk, "#birdseye canvas").shape[:2]
    assert height / width == pytest.approx(SMALL[0] / SMALL[1], rel=0.02)
    assert desk.run("return document.querySelector('[data-scene-images=\"0\"]').hidden")


# --- how it is used ------------------------------------------------------------------------------


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


def test_the_theme_follows_the_system_until_it_is_chosen(desk: Browser, page: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = desk.run(ground)
    desk.set_colour_scheme("dark")
    dark = desk.run(ground)
    assert light != dark
    desk.wait_for("document.getElementById('theme').textContent === 'Light'")
    desk.run("document.getElementById('theme').click()")
    assert desk.run(ground) == light
    desk.open(page)  # the choice is remembered
    assert desk.run(ground) == light
    desk.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_overflows_a_narrow_screen(window: Browser, page: Path, width: int) -> None:
    window.set_screen(width, 844, mobile=True, scale=2)
    open_page(window, page)
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


def test_without_webgl_a_sentence_and_the_maps_remain(tmp_path: Path, page: Path) -> None:
    with Browser(tmp_path, flags=("--disable-3d-apis",)) as window:
        window.open(page)
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
