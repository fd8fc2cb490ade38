"""The picture of a report for the documentation: its summary beside its scene.

python -m tests.deploy.report.screenshot demo-bundle/report.html docs/images/report.png
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.deploy.report.browser import Browser

_WIDTH, _HEIGHT = 1180, 1480  # of each half, in CSS pixels
_TOPS = ("document.body", "document.querySelector('.scene-controls')")


def main(page: Path, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as window:
        window.set_screen(_WIDTH, _HEIGHT)
        window.set_colour_scheme("light")
        window.open(page)
        window.wait_for("document.getElementById('scene-view')?.dataset.state === 'ready'")
        halves = [_from(window, top) for top in _TOPS]
    whole = Image.new("RGB", (2 * _WIDTH, _HEIGHT))
    for index, half in enumerate(halves):
        whole.paste(half, (index * _WIDTH, 0))
    picture.parent.mkdir(parents=True, exist_ok=True)
    whole.save(picture, optimize=True)


def _from(window: Browser, top: str) -> Image.Image:
    """What the window shows with the element ``top`` at its upper edge, below the bar."""
    window.run(
        f"""const y = {top}.getBoundingClientRect().top + scrollY - 70;
        scrollTo({{top: y, behavior: "instant"}});
        return new Promise(done => setTimeout(done, 1500)); // drawn again at full density"""
    )
    return Image.open(io.BytesIO(window.screenshot())).convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
