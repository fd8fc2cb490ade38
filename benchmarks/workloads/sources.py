"""What the workloads are made of: photographs, real lines of text, prose and fonts, by set.

Every photograph, every cut-out line and every sentence belongs to one of the three sets, so that
nothing that a network is judged on was seen while it was calibrated or while a budget was spent.
Fonts are shared: there are too few.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from benchmarks.workloads.wheels import Wheels
from exporters.errors import MissingRequirementError

SETS = ("calibration", "validation", "heldout")

PHOTOGRAPHS = {
    "calibration": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/coins.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/ihc.png",
        "skimage/data/moon.png",
        "skimage/data/color.png",
    ),
    "validation": (
        "skimage/data/chelsea.png",
        "skimage/data/grass.png",
        "skimage/data/rocket.jpg",
        "skimage/data/cell.png",
        "sklearn/datasets/images/flower.jpg",
    ),
    "heldout": (
        "skimage/data/coffee.png",
        "skimage/data/gravel.png",
        "skimage/data/camera.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/retina.jpg",
        "sklearn/datasets/images/china.jpg",
    ),
}

Box = tuple[int, int, int, int]

LINES: dict[str, dict[str, tuple[Box, ...]]] = {
    "calibration": {
        "en.jpg": ((0, 2, 300, 32), (0, 50, 709, 76)),
        "text_det.jpg": (
            (67, 96, 257, 128),
            (90, 166, 232, 187),
            (67, 360, 152, 387),
            (128, 288, 224, 338),
            (33, 231, 80, 254),
        ),
        "page.png": ((4, 46, 380, 66), (4, 82, 380, 102)),
    },
    "validation": {
        "en.jpg": ((0, 74, 709, 99),),
        "text_det.jpg": ((65, 140, 259, 168), (200, 360, 288, 387), (139, 226, 187, 248)),
        "page.png": ((4, 6, 300, 34), (4, 64, 380, 84)),
        "issue_170.png": ((80, 180, 620, 400),),
    },
    "heldout": {
        "en.jpg": ((0, 98, 350, 123),),
        "text_det.jpg": (
            (5, 13, 316, 95),
            (67, 388, 152, 415),
            (200, 388, 288, 415),
            (90, 338, 232, 358),
            (139, 247, 187, 274),
        ),
        "text_rec.jpg": ((0, 0, 362, 78),),
        "test_without_det.jpg": ((0, 0, 445, 39),),
        "page.png": ((4, 99, 380, 120), (4, 118, 170, 140)),
    },
}
"""Lines of text in the images of ``ocr/`` and, ``page.png``, of scikit-image: left, top, right,
bottom."""

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
)

_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\-()$%]{20,200}[.?!]")


class Sources:
    """Of one set."""

    def __init__(self, which: str, wheels: Wheels) -> None:
        self._which = which
        self._wheels = wheels

    @cached_property
    def photographs(self) -> list[Image.Image]:
        return [
            self._wheels.image(f"scikit-{'learn' if 'sklearn' in path else 'image'}", path)
            for path in PHOTOGRAPHS[self._which]
        ]

    @cached_property
    def lines(self) -> list[Image.Image]:
        """Cut out of real images."""
        return [
            self._text_image(name).crop(box)
            for name, boxes in LINES[self._which].items()
            for box in boxes
        ]

    @cached_property
    def sentences(self) -> list[str]:
        """A third of the sentences of the Brown corpus, drawn by their place in it."""
        path = _data() / "text" / "brown.txt.gz"
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        found = _SENTENCE.findall(" ".join(text.split()))
        return found[SETS.index(self._which) :: len(SETS)]

    def font(self, name: str, size: int) -> ImageFont.FreeTypeFont:
        data = self._wheels.read("matplotlib", f"matplotlib/mpl-data/fonts/ttf/{name}.ttf")
        return ImageFont.truetype(io.BytesIO(data), size)

    def photograph(self, random: np.random.Generator, width: int, height: int) -> Image.Image:
        """A crop of some photograph, in any orientation, filling ``width`` x ``height``."""
        image = self.photographs[random.integers(len(self.photographs))]
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        share = random.uniform(0.35, 1.0)
        scale = share * min(image.width / width, image.height / height)
        w, h = max(int(width * scale), 8), max(int(height * scale), 8)
        left, top = (
            int(random.integers(image.width - w + 1)),
            int(random.integers(image.height - h + 1)),
        )
        part = image.crop((left, top, left + w, top + h))
        return part.resize((width, height), Image.Resampling.BICUBIC)

    def _text_image(self, name: str) -> Image.Image:
        if name == "page.png":
            return self._wheels.image("scikit-image", f"skimage/data/{name}")
        return Image.open(_data() / "ocr" / name).convert("RGB")


def _data() -> Path:
    root = os.environ.get("EDGEPORT_DATA")
    if root is None:
        raise MissingRequirementError(
            "EDGEPORT_DATA names no folder with real data", fix="export EDGEPORT_DATA=FOLDER"
        )
    return Path(root)
