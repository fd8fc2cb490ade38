"""Instances in the report: one colour a thing, in every view, counted as they are shown."""

from __future__ import annotations

import base64
import colorsys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.report import render
from tests.deploy.report.browser import Browser
from tests.deploy.report.drawn import open_page, picture_of, settle, statements
from tests.deploy.report.fixture import CLASSES, FREE, minimal_report, scene

SIZE = 40
CAR, ROAD = CLASSES.index("car"), CLASSES.index("driveable_surface")
GREY = (174, 176, 180)
FAR = 300  # a number beyond one byte
WHERE = {1: (4, 4), 2: (4, 20), FAR: (24, 12)}


def two_grids() -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    labels = np.full((SIZE, SIZE, 6), FREE, np.uint8)
    numbers = np.zeros(labels.shape, np.uint16)
    labels[:, :, 0] = ROAD
    for number, (x, y) in WHERE.items():
        labels[x : x + 10, y : y + 8, 1:4] = CAR
        numbers[x : x + 10, y : y + 8, 1:4] = number
    return labels, numbers


def colour(number: int) -> NDArray[np.float64]:
    index = 1 + (number - 1) % 255
    lightness = (0.5, 0.38, 0.62)[index % 3]
    return 255 * np.array(colorsys.hls_to_rgb(index * 0.61803398875 % 1, lightness, 0.75))


def numbered_scene(sample: str, numbers: NDArray[np.uint16] | None) -> dict[str, Any]:
    labels, _ = two_grids()
    drawn = scene(sample, {"fp32": (labels, ""), "int8": (labels, "")}, [])
    for grid in drawn["grids"] if numbers is not None else ():
        grid["instances"] = base64.b64encode(zlib.compress(numbers.astype("<u2"))).decode()
    return drawn


@pytest.fixture
def page(window: Browser, tmp_path: Path) -> Iterator[Browser]:
    scenes = [numbered_scene("numbered", two_grids()[1]), numbered_scene("plain", None)]
    path = tmp_path / "report.html"
    path.write_text(render(minimal_report() | {"occupancy": scenes}))
    window.set_screen(800, 700)
    window.set_colour_scheme("light")
    open_page(window, path)
    yield window
    assert [entry["message"] for entry in window.console()] == []


def press(page: Browser, kind: str) -> None:
    page.run("document.querySelector(`[data-colour=${arguments[0]}]`).click()", kind)
    settle(page)


def from_above(page: Browser, x: int, y: int) -> NDArray[np.float64]:
    pixels = picture_of(page, "#birdseye canvas")
    size = pixels.shape[0] / SIZE
    found: NDArray[np.float64] = pixels[
        int((SIZE - 0.5 - x) * size), int((SIZE - 0.5 - y) * size), :3
    ].astype(np.float64)
    return found


def shade_of(found: NDArray[np.float64], colour: Any) -> float:
    """How dark ``found`` is of ``colour``; NaN where it is another colour."""
    whole = np.asarray(colour, np.float64)
    shade = float(found @ whole / (whole @ whole))
    return shade if np.abs(found - shade * whole).max() < 4 else float("nan")  # of 255; rounding


def test_every_instance_has_its_colour_from_above(page: Browser) -> None:
    before = [from_above(page, x + 5, y + 2) for x, y in WHERE.values()]
    assert np.array_equal(before[0], before[1])  # by class all cars are alike
    press(page, "instance")
    for number, (x, y) in WHERE.items():
        assert 0.79 < shade_of(from_above(page, x + 5, y + 2), colour(number)) < 1.01
    assert 0.79 < shade_of(from_above(page, 36, 3), GREY) < 1.01
    press(page, "class")
    after = [from_above(page, x + 5, y + 2) for x, y in WHERE.values()]
    assert np.array_equal(before, after)


def test_every_instance_has_its_colour_in_three_dimensions(page: Browser) -> None:
    page.run("document.querySelector('[data-view=above]').click()")
    press(page, "instance")
    for pane in (0, 1):
        pixels = picture_of(page, "#voxels canvas", pane).reshape(-1, 4)
        drawn = np.unique(pixels[pixels[:, 3] == 255, :3], axis=0).astype(np.float64)
        for number in WHERE:
            assert sum(shade_of(one, colour(number)) > 0.5 for one in drawn) > 3
    press(page, "class")
    pixels = picture_of(page, "#voxels canvas").reshape(-1, 4)
    drawn = np.unique(pixels[pixels[:, 3] == 255, :3], axis=0).astype(np.float64)
    assert not any(shade_of(one, colour(2)) > 0.5 for one in drawn)


def test_shown_instances_are_counted(page: Browser) -> None:
    def said() -> str:
        return str(page.run("return document.querySelector('.statement').textContent"))

    assert said().endswith("visible faces. 3 instances.")
    assert statements(page)[0][0] == SIZE * SIZE + 3 * 10 * 8 * 3
    page.run(
        """const slider = document.getElementById("height-clip");
        slider.value = 1; slider.dispatchEvent(new Event("input"));"""
    )
    settle(page)
    assert said().endswith(" 0 instances.")


def test_a_sample_without_instances_offers_no_choice(page: Browser) -> None:
    press(page, "instance")
    assert page.run("return document.getElementById('colour-choices').offsetHeight") > 0
    page.run("document.querySelector('[data-scene=\"1\"]').click()")
    page.wait_for("document.getElementById('colour-choices').offsetHeight === 0")
    settle(page)
    assert page.run("return document.querySelector('[data-colour=class]').ariaPressed") == "true"
    assert "instance" not in page.run("return document.querySelector('.statement').textContent")
