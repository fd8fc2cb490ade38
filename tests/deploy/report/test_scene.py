"""The views of a scene in a real browser show exactly what numpy says they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy.report import render
from deploy.report.palette import class_colours
from tests.deploy.report.browser import Browser
from tests.deploy.report.drawn import (
    SHAPE,
    SMALL,
    exposed_faces,
    from_above,
    open_page,
    picture_of,
    settle,
    statements,
)
from tests.deploy.report.fixture import (
    CLASSES,
    FREE,
    disturbed,
    minimal_report,
    noise,
    scene,
    street,
)


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
    # two of speed, two of agreement, two of either quantized file
    assert [kind for kind, _ in charts] == ["wide"] * 8
    assert all(marks >= 3 * 4 for _, marks in charts)  # four samples by three metrics are fewest


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


def test_dense_noise_of_random_weights_is_drawn_whole(window: Browser, tmp_path: Path) -> None:
    grids = {"fp32": (noise(), ""), "int8": (disturbed(noise(), 0.02, 4), "")}
    noisy_page = tmp_path / "report.html"
    report = minimal_report() | {"occupancy": [scene("noise", grids, [])]}
    noisy_page.write_text(render(report))
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
