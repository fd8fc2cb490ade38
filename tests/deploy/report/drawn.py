"""What the browser drew, as arrays, and what numpy says it should have drawn."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.deploy.report.browser import Browser
from tests.deploy.report.fixture import FREE, Labels

READY = "document.getElementById('scene-view').dataset.state === 'ready'"
SHAPE = (72, 60, 16)  # of most tests: WebGL in software takes seconds for a whole street
SMALL = (40, 30, 8)


def open_page(window: Browser, page: Path) -> None:
    window.open(page)
    window.wait_for(READY)


def settle(window: Browser) -> None:
    """Two animation frames: everything that was asked for is drawn."""
    window.run(
        "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


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
