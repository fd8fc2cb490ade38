"""Which inputs are images, and the few numbers of an image that the doctor looks at.

With a self-description its word counts: images are what it calls ``camera-images`` or ``image``. A
file without one is judged by shape: four axes, one or three channels, sides of 16 pixels or more.
Smaller ones have too few pixels to tell noise from a picture.

Everything is measured on a regular grid of at most 128 by 128 pixels: an M0 sample (six images of
256 by 704) costs a few milliseconds. Minimum and maximum are exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.pictures import IMAGE
from exporters.modelfile import InputSpec

Floats = NDArray[np.float32]

GRID = 128
THUMBNAIL = 16
SMALLEST_SIDE = 16
_PATCH = 64
_SUSPICIOUS = 0.2
"""Neighbour correlation below which a spectrum is computed: pictures have 0.5 and more."""


@dataclass(frozen=True)
class ImageForm:
    """How an input holds images.

    Attributes:
        channels_last: ``[N, H, W, C]``, else ``[N, C, H, W]``.
        low, high: values that the model takes, ``[C]`` or one number; None where nobody says.
    """

    channels_last: bool
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    @property
    def layout(self) -> str:
        return "NHWC" if self.channels_last else "NCHW"

    @property
    def other_layout(self) -> str:
        return "NCHW" if self.channels_last else "NHWC"

    @property
    def normalized(self) -> bool:
        """Whether every channel has limits of its own."""
        return self.low is not None and self.low.size > 1

    @property
    def span(self) -> float | None:
        """From the lowest to the highest value that the model takes."""
        if self.low is None or self.high is None:
            return None
        return float(self.high.max() - self.low.min())

    def pixels(self, value: Array) -> Array:
        """View of ``value`` as ``[N, H, W, C]``."""
        return value if self.channels_last else np.moveaxis(value, 1, -1)

    def misread(self, value: Array) -> Array:
        """The same memory read in the other layout, as ``[N, H, W, C]``."""
        images, height, width, channels = self.pixels(value).shape
        flat = np.ascontiguousarray(value)
        if self.channels_last:
            return np.moveaxis(flat.reshape(images, channels, height, width), 1, -1)
        return flat.reshape(images, height, width, channels)


def image_form(item: InputSpec, *, described: bool) -> ImageForm | None:
    """How ``item`` holds images, None where it holds none.

    Args:
        described: whether ``item`` comes from a self-description.
    """
    if described and item.semantics not in ("camera-images", IMAGE):
        return None
    if len(item.shape) != 4 or not (item.dtype == "uint8" or item.dtype.startswith("float")):
        return None
    layout = item.details.get("layout") or _layout(item.shape)
    if layout is None:
        return None
    sides = item.shape[1:3] if layout == "NHWC" else item.shape[2:]
    if any(isinstance(side, int) and side < SMALLEST_SIDE for side in sides):
        return None
    return ImageForm(layout == "NHWC", *_limits(item))


def _layout(shape: tuple[int | str, ...]) -> str | None:
    if shape[1] in (1, 3):
        return "NCHW"
    return "NHWC" if shape[3] in (1, 3) else None


def _limits(item: InputSpec) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    details = item.details
    if {"mean", "std", "scale"} & details.keys():
        mean, std = (
            np.array(details.get(k, usual), float) for k, usual in (("mean", 0), ("std", 1))
        )
        low, high = np.atleast_1d((0 - mean) / std), (255 * details.get("scale", 1) - mean) / std
        return low, np.atleast_1d(high)
    if "range" in details:
        low, high = details["range"]
        return np.array([low], float), np.array([high], float)
    if item.dtype == "uint8":
        return np.array([0.0]), np.array([255.0])
    return None, None


@dataclass(frozen=True)
class ImageFeatures:
    """Of the ``n`` images in one input of one sample.

    Attributes:
        mean, std: by channel, ``[n, C]``.
        low, high: exact, ``[n]``.
        neighbours: correlation of pixels with their right and lower neighbours, ``[n, 2]``.
        misread_neighbours: the same if the memory is read in the other layout, ``[2]`` of all
            images together; NaN for one channel, where layouts do not differ.
        flatness: of the spectrum, 0.56 for white noise; 0 where neighbours correlate. ``[n]``.
        color: largest difference between channels, ``[n]``.
        thumbnail: ``[n, 16, 16]``, means over tiles of the grid.
    """

    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    neighbours: Floats
    misread_neighbours: Floats
    flatness: Floats
    color: Floats
    thumbnail: Floats

    @classmethod
    def of(cls, value: Array, form: ImageForm) -> ImageFeatures | None:
        """None where the images of this sample are too small to tell anything."""
        pixels = form.pixels(value)
        if min(pixels.shape[1:3]) < SMALLEST_SIDE:
            return None
        grid = _grid(pixels)
        neighbours = _neighbours(pixels)
        misread = np.full(2, np.nan, np.float32)
        if pixels.shape[-1] > 1:
            misread = _neighbours(form.misread(value)).mean(axis=0)
        return cls(
            mean=grid.mean(axis=(1, 2)),
            std=grid.std(axis=(1, 2)),
            low=_extreme(value, np.min),
            high=_extreme(value, np.max),
            neighbours=neighbours,
            misread_neighbours=misread,
            flatness=np.array(
                [
                    _flatness(image) if np.abs(near).max() < _SUSPICIOUS else 0.0
                    for image, near in zip(pixels, neighbours, strict=True)
                ],
                np.float32,
            ),
            color=_color(grid),
            thumbnail=_thumbnail(grid),
        )


def _extreme(value: Array, reduce: Any) -> Floats:
    extremes: Floats = reduce(value, axis=(1, 2, 3)).astype(np.float32)
    return extremes


def _color(grid: Floats) -> Floats:
    """By whole channels: numpy walks an axis of three, the last one, 25 times as slowly."""
    channels = [grid[..., channel] for channel in range(grid.shape[-1])]
    difference = functools.reduce(np.maximum, channels) - functools.reduce(np.minimum, channels)
    largest: Floats = difference.max(axis=(1, 2))
    return largest


def _steps(pixels: Array) -> tuple[int, int]:
    return -(-pixels.shape[1] // GRID), -(-pixels.shape[2] // GRID)


def _grid(pixels: Array) -> Floats:
    down, right = _steps(pixels)
    grid: Floats = pixels[:, ::down, ::right].astype(np.float32)
    return grid


def _neighbours(pixels: Array) -> Floats:
    """``1 - E[(a - b)^2] / (2 Var)`` of pixels ``a`` and neighbours ``b``, ``[n, 2]``.

    An image of one colour has no correlation; it counts as smooth.
    """
    down, right = _steps(pixels)
    here = pixels[:, :-1:down, :-1:right].astype(np.float32)
    beside = pixels[:, :-1:down, 1::right].astype(np.float32)
    below = pixels[:, 1::down, :-1:right].astype(np.float32)
    variance = here.var(axis=(1, 2)).mean(axis=-1)
    result = np.ones((len(pixels), 2), np.float32)
    for axis, other in enumerate((beside, below)):
        difference = np.square(here - other).mean(axis=(1, 2, 3))
        np.divide(difference, 2 * variance, out=difference, where=variance > 0)
        result[:, axis] = np.where(variance > 0, 1 - difference, 1)
    return result


def _flatness(image: Array) -> float:
    """Geometric over arithmetic mean of the power spectrum of a central patch, without its mean.

    Of white noise the powers are exponential, so this is ``exp(-0.577) = 0.56``.
    """
    height, width = (min(side, _PATCH) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    patch = image[top : top + height, left : left + width].astype(np.float64)
    power = np.abs(np.fft.fft2(patch, axes=(0, 1))).reshape(-1, image.shape[-1])[1:] ** 2
    if not power.any():
        return 0.0
    return float(np.exp(np.log(power + 1e-12 * power.max()).mean()) / power.mean())


def _thumbnail(grid: Floats) -> Floats:
    """Grey, by means over 16 by 16 tiles (nearly equal ones where 16 does not divide the grid)."""
    small = grid.mean(axis=-1)
    for axis in (1, 2):
        size = small.shape[axis]
        starts = np.arange(THUMBNAIL) * size // THUMBNAIL
        counts = np.diff(np.append(starts, size)).astype(np.float32)
        sums = np.add.reduceat(small, starts, axis=axis)
        small = sums / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    result: Floats = small
    return result
