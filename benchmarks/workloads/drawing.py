"""Text on backgrounds, and what a camera does to it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from benchmarks.workloads.sources import FONTS, Sources

Colour = tuple[int, int, int]


def printed_line(
    sources: Sources, random: np.random.Generator, size: int, characters: int
) -> tuple[Image.Image, Image.Image]:
    """A piece of a sentence as ``(ink mask, background)``, both of the size that it takes.

    Args:
        size: of the font, in pixels.
        characters: at most so many, whole words.
    """
    words = piece(sources, random, characters)
    font = sources.font(FONTS[random.integers(len(FONTS))], size)
    left, top, right, bottom = font.getbbox(words)
    pad = int(random.integers(2, max(size // 3, 3)))
    width, height = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((pad - left, pad - top), words, fill=255, font=font)
    if random.random() < 0.5:
        return mask, sources.photograph(random, width, height)
    return mask, Image.new("RGB", (width, height), _colour(random))


def piece(sources: Sources, random: np.random.Generator, characters: int) -> str:
    """Whole words from somewhere in a sentence, at least four characters."""
    while True:
        words = sources.sentences[random.integers(len(sources.sentences))].split()
        start = int(random.integers(len(words)))
        text = ""
        for word in words[start:]:
            if len(text) + len(word) + 1 > characters:
                break
            text = f"{text} {word}".strip()
        if len(text) >= 4:
            return text


def inked(mask: Image.Image, background: Image.Image, random: np.random.Generator) -> Image.Image:
    """Ink of a colour that can be read on the background."""
    under = np.asarray(background, np.float32).reshape(-1, 3).mean(axis=0)
    while True:
        ink = _colour(random)
        if abs(np.dot(np.subtract(ink, under), (0.299, 0.587, 0.114))) > 70:
            break
    return Image.composite(Image.new("RGB", background.size, ink), background, mask)


def seen(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Brightness, contrast, colour, blur, noise and JPEG, each a little."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(random.uniform(0.75, 1.2)))
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.2, 0.9))))
    clean = np.asarray(image, np.float32)
    noisy = clean + random.normal(0, random.uniform(0, 5), clean.shape)
    image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(random.integers(60, 96)))
    return Image.open(stream).convert("RGB")


def network_input(
    image: Image.Image, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """float32 ``[1, 3, H, W]`` in BGR, as these networks were trained, normalised."""
    bgr = np.asarray(image, np.float32)[..., ::-1] / 255
    scaled = (bgr - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], dtype=np.float32)


def _colour(random: np.random.Generator) -> Colour:
    red, green, blue = (int(c) for c in random.integers(0, 256, 3))
    return red, green, blue
