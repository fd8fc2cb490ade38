"""Inputs of the three networks: scenes with text, single lines, pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.workloads.drawing import inked, network_input, piece, printed_line, seen
from benchmarks.workloads.sources import Sources

Array = NDArray[np.float32]

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SCENE = (640, 480)
LINE = (320, 48)
PAGE = (608, 800)


def text_scene(sources: Sources, random: np.random.Generator) -> Array:
    """A photograph with three to ten lines of text, cut from real images or printed."""
    width, height = SCENE
    scene = sources.photograph(random, width, height)
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(int(random.integers(3, 11))):
        patch = _real_line(sources, random, random.uniform(0.7, 1.8), width)
        if random.random() < 0.6:
            mask, background = printed_line(
                sources, random, int(random.integers(12, 44)), int(random.integers(6, 40))
            )
            patch = inked(mask, background, random)
        if patch.width >= width or patch.height >= height:
            continue
        left = int(random.integers(width - patch.width))
        top = int(random.integers(height - patch.height))
        box = (left - 6, top - 6, left + patch.width + 6, top + patch.height + 6)
        if any(_meet(box, other) for other in taken):
            continue
        scene.paste(patch, (left, top))
        taken.append(box)
    return network_input(seen(scene, random), HALF, HALF)


def text_line(sources: Sources, random: np.random.Generator) -> Array:
    """One line of 48 pixels, cut from a real image or printed; zeros behind its end."""
    width, height = LINE
    if random.random() < 0.4:
        line = _real_line(sources, random, random.uniform(0.6, 1.5), None)
    else:
        mask, background = printed_line(
            sources, random, int(random.integers(18, 44)), int(random.integers(5, 24))
        )
        line = inked(mask, background, random)
    line = seen(line, random)
    fitting = max(round(line.width * height / line.height), 8)
    line = line.resize((fitting, height), Image.Resampling.BILINEAR)
    if fitting > width:
        left = int(random.integers(fitting - width + 1))
        line = line.crop((left, 0, left + width, height))
    padded = np.zeros((1, 3, height, width), np.float32)
    padded[..., : line.width] = network_input(line, HALF, HALF)
    return padded


def document_page(sources: Sources, random: np.random.Generator) -> Array:
    """A page: title, paragraphs in one or two columns, photographs with captions, tables."""
    width, height = PAGE
    page = Image.new("RGB", PAGE, (int(random.integers(225, 256)),) * 3)
    draw = ImageDraw.Draw(page)
    margin = int(random.integers(30, 70))
    top = margin
    serif = ("STIXGeneral", "DejaVuSerif", "cmr10", "DejaVuSans")[random.integers(4)]
    if random.random() < 0.8:
        title = sources.font("DejaVuSans-Bold", int(random.integers(18, 30)))
        draw.text((margin, top), piece(sources, random, 32), fill=(10, 10, 10), font=title)
        top += int(random.integers(45, 70))
    columns = int(random.integers(1, 3))
    gap = int(random.integers(16, 32))
    across = (width - 2 * margin - gap * (columns - 1)) // columns
    for column in range(columns):
        left, y = margin + column * (across + gap), top
        while y < height - margin - 60:
            kind = random.random()
            if kind < 0.6:
                y = _paragraph(draw, sources, random, (left, y), across, height - margin, serif)
            elif kind < 0.85:
                y = _figure(page, draw, sources, random, (left, y), across, height - margin)
            else:
                y = _table(draw, sources, random, (left, y), across, height - margin)
            y += int(random.integers(10, 28))
    return network_input(seen(page, random), IMAGENET_MEAN, IMAGENET_STD)


def _real_line(
    sources: Sources, random: np.random.Generator, scale: float, widest: int | None
) -> Image.Image:
    """One of the cut-out lines, or a part of a long one, resized."""
    line = sources.lines[random.integers(len(sources.lines))]
    if line.width > 6 * line.height and random.random() < 0.7:
        part = int(line.width * random.uniform(0.3, 0.9))
        left = int(random.integers(line.width - part + 1))
        line = line.crop((left, 0, left + part, line.height))
    scale = max(scale, 12 / line.height)
    if widest is not None:
        scale = min(scale, 0.95 * widest / line.width)
    size = max(round(line.width * scale), 8), max(round(line.height * scale), 8)
    return line.resize(size, Image.Resampling.BICUBIC)


def _paragraph(
    draw: ImageDraw.ImageDraw,
    sources: Sources,
    random: np.random.Generator,
    at: tuple[int, int],
    across: int,
    end: int,
    face: str,
) -> int:
    size = int(random.integers(10, 14))
    font = sources.font(face, size)
    left, y = at
    for _ in range(int(random.integers(3, 12))):
        if y + size > end:
            break
        text = piece(sources, random, 2 * across // size)
        while font.getlength(text) < across:
            text += " " + piece(sources, random, 24)
        while font.getlength(text) > across:
            text = text[:-1]
        draw.text((left, y), text, fill=(20, 20, 20), font=font)
        y += round(1.35 * size)
    return y


def _figure(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    sources: Sources,
    random: np.random.Generator,
    at: tuple[int, int],
    across: int,
    end: int,
) -> int:
    left, y = at
    high = min(int(across * random.uniform(0.5, 0.9)), end - y - 24)
    if high < 40:
        return end
    page.paste(sources.photograph(random, across, high), (left, y))
    caption = f"Figure {random.integers(1, 20)}. {piece(sources, random, across // 9)}"
    font = sources.font("DejaVuSans", 10)
    draw.text((left + across // 8, y + high + 6), caption, fill=(30, 30, 30), font=font)
    return y + high + 20


def _table(
    draw: ImageDraw.ImageDraw,
    sources: Sources,
    random: np.random.Generator,
    at: tuple[int, int],
    across: int,
    end: int,
) -> int:
    left, y = at
    rows, columns, step = int(random.integers(3, 9)), int(random.integers(2, 5)), 18
    rows = min(rows, (end - y) // step - 1)
    if rows < 2:
        return end
    font = sources.font("DejaVuSans", 10)
    for row in range(rows + 1):
        draw.line((left, y + row * step, left + across, y + row * step), fill=(60, 60, 60))
    for column in range(columns + 1):
        x = left + column * across // columns
        draw.line((x, y, x, y + rows * step), fill=(60, 60, 60))
    for row in range(rows):
        for column in range(columns):
            words = piece(sources, random, max(across // columns // 8, 5))
            place = (left + column * across // columns + 3, y + row * step + 3)
            draw.text(place, words, fill=(20, 20, 20), font=font)
    return y + rows * step


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
