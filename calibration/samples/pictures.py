"""From a picture to a network's input, as the input's description says it.

    value = (pixel × scale - mean) / std          by channel of the input, pixel 0..255

``mean`` and ``std`` are in the order of the input's channels, after red and blue were exchanged for
BGR. Resizing is Pillow's: antialiased, which ``cv2.resize`` and ``torch``'s plain ``interpolate``
are not. Details of an input with semantics ``image``:

| key | value |
|---|---|
| ``layout`` | letters of the axes: ``NCHW``, ``NHWC``, ``CHW``, ``HWC``, ``NHW`` or ``HW`` |
| ``color_order`` | ``RGB``, ``BGR`` or ``gray`` |
| ``size`` | height and width |
| ``resize`` | ``stretch``, ``letterbox``, ``crop`` or ``crop:N`` |
| ``filter`` | ``bilinear`` (default), ``bicubic``, ``nearest``, ``box``, ``lanczos`` |
| ``fill`` | pixel value beside a letterboxed picture, 0..255; 114 |
| ``align`` | ``center`` (default) or ``top-left``: where a letterboxed picture lies |
| ``scale, mean, std`` | see the formula; absent for uint8 |
| ``camera`` | of several cameras the one whose image is taken |

``stretch`` does not keep proportions; ``letterbox`` shows the whole picture and fills the rest;
``crop`` makes the picture cover the input and takes its middle, ``crop:N`` makes its shorter side
N pixels first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.said import SEE, choice, listed, number
from exporters.errors import UserError
from exporters.modelfile import InputSpec
from exporters.spans import COPIES, RESIZE, span

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE = "image"
LAYOUTS = ("NCHW", "NHWC", "CHW", "HWC", "NHW", "HW")
COLORS = ("RGB", "BGR", "gray")
RESIZES = ("stretch", "letterbox", "crop")
FILTERS = ("bilinear", "bicubic", "nearest", "box", "lanczos")
ALIGNS = ("center", "top-left")
IMAGE_KEYS = (
    "layout",
    "color",
    "size",
    "resize",
    "filter",
    "fill",
    "align",
    "scale",
    "mean",
    "std",
    "camera",
)
FILL = 114
"""Grey that letterboxing detectors are usually trained with."""


def picture_input(picture: NDArray[np.uint8], item: InputSpec) -> Array:
    """uint8 RGB ``[height, width, 3]`` of any size as what ``item`` takes."""
    details = item.details
    with span(RESIZE):
        pixels = np.asarray(resized(_colored(picture, details["color_order"]), details))
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if details["color_order"] == "BGR":
            pixels = pixels[:, :, ::-1]
        values = _valued(pixels, item)
    with span(COPIES):
        return laid_out(values, details["layout"])


def resized(image: Image, details: Any) -> Image:
    """``image`` at the input's size, by the input's rule."""
    from PIL import Image

    height, width = details["size"]
    how, _, shorter = str(details["resize"]).partition(":")
    sampling = Image.Resampling[str(details.get("filter", FILTERS[0])).upper()]
    if how == "stretch":
        return image.resize((width, height), sampling)
    if how == "letterbox":
        factor = min(width / image.width, height / image.height)
        small = image.resize(_scaled(image, factor), sampling)
        fill = int(details.get("fill", FILL))
        whole = Image.new(image.mode, (width, height), (fill,) * len(image.getbands()))
        spare = (width - small.width, height - small.height)
        centered = details.get("align", ALIGNS[0]) == ALIGNS[0]
        whole.paste(small, (spare[0] // 2, spare[1] // 2) if centered else (0, 0))
        return whole
    factor = max(width / image.width, height / image.height)
    if shorter:
        factor = max(factor, int(shorter) / min(image.size))
    large = image.resize(_scaled(image, factor), sampling)
    left, top = (large.width - width) // 2, (large.height - height) // 2
    return large.crop((left, top, left + width, top + height))


def _scaled(image: Image, factor: float) -> tuple[int, int]:
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _colored(picture: NDArray[np.uint8], color: str) -> Image:
    from PIL import Image

    image = Image.fromarray(picture)
    return image.convert("L") if color == "gray" else image


def _valued(pixels: NDArray[np.uint8], item: InputSpec) -> Array:
    if item.dtype == "uint8":
        return pixels
    details = item.details
    scaled = pixels.astype(np.float64) * details.get("scale", 1.0)
    values = (scaled - details.get("mean", 0.0)) / details.get("std", 1.0)
    converted: Array = values.astype(item.dtype)
    return converted


def laid_out(pixels: Array, layout: str) -> Array:
    """``[H, W, C]`` with its axes as the letters of ``layout`` say.

    >>> laid_out(np.zeros((4, 6, 3)), "NCHW").shape
    (1, 3, 4, 6)
    """
    letters = layout.replace("N", "")
    array = pixels if "C" in letters else pixels[:, :, 0]
    array = array.transpose(["HWC".index(letter) for letter in letters])
    return np.ascontiguousarray(array[None] if layout.startswith("N") else array)


def image_layout(shape: tuple[int | str, ...]) -> str | None:
    if len(shape) == 4:
        return "NCHW" if shape[1] in (1, 3) else "NHWC" if shape[3] in (1, 3) else None
    if len(shape) == 3 and min((s for s in shape if isinstance(s, int)), default=0) in (1, 3):
        sides = {"CHW": shape[1:], "HWC": shape[:2]}
        for layout, found in sides.items():
            if shape[layout.index("C")] in (1, 3) and all(_is_side(side) for side in found):
                return layout
    return None


def _is_side(size: int | str) -> bool:
    return isinstance(size, str) or size >= 16


def image_spec(name: str, said: Mapping[str, Any], graph: InputSpec | None) -> InputSpec:
    layout = choice(name, said, "layout", LAYOUTS, image_layout(graph.shape) if graph else None)
    sizes = dict(zip(layout, graph.shape, strict=False)) if graph is not None else {}
    grey = "gray" if "C" not in layout or sizes.get("C") == 1 else None
    color = choice(name, said, "color", COLORS, grey)
    size = _size(name, said, sizes)
    dtype = str(said.get("dtype") or (graph.dtype if graph is not None else "float32"))
    details: dict[str, Any] = {"layout": layout, "color_order": color, "size": size}
    details["resize"] = _resize(name, said)
    for key, words in (("filter", FILTERS), ("align", ALIGNS)):
        if key in said:
            details[key] = choice(name, said, key, words)
    if "fill" in said:
        details["fill"] = int(number(name, "fill", said["fill"]))
    if "camera" in said:
        details["camera"] = str(said["camera"])
    channels = 1 if color == "gray" else 3
    details |= _values(name, said, dtype, channels)
    lengths = {"N": 1, "C": channels, "H": size[0], "W": size[1]}
    return InputSpec(name, dtype, tuple(lengths[letter] for letter in layout), IMAGE, details)


def _values(name: str, said: Mapping[str, Any], dtype: str, channels: int) -> dict[str, Any]:
    """``scale``, ``mean`` and ``std``, which a float input cannot do without."""
    given = [key for key in ("scale", "mean", "std") if key in said]
    if dtype == "uint8":
        if given:
            raise UserError(
                f"input {name!r} is uint8: {given[0]} would be rounded away", fix="Leave it out"
            )
        return {}
    if not given:
        raise UserError(
            f"input {name!r} is {dtype}, and nobody says on which scale",
            fix="Give --scale 1 for 0..255, --scale 1/255 for 0..1, and --mean and --std if any: "
            "value = (pixel × scale - mean) / std",
        )
    values: dict[str, Any] = {}
    for key in given:
        numbers = [number(name, key, item) for item in listed(said[key])]
        if len(numbers) not in (1, channels) or (key == "scale" and len(numbers) != 1):
            raise UserError(
                f"input {name!r}: {key} has {len(numbers)} numbers for {channels} channels",
                fix="Give one number, or one a channel",
            )
        if key != "mean" and 0 in numbers:
            raise UserError(f"input {name!r}: {key} is 0", fix=SEE)
        values[key] = numbers[0] if key == "scale" else numbers * (channels // len(numbers))
    return values


def _size(name: str, said: Mapping[str, Any], sizes: Mapping[str, int | str]) -> list[int]:
    if "size" in said:
        parts = str(said["size"]).lower().split("x") if not isinstance(said["size"], list) else None
        numbers = said["size"] if parts is None else parts
        if len(numbers) == 2 and all(str(n).strip().isdigit() and int(n) > 0 for n in numbers):
            return [int(number) for number in numbers]
        raise UserError(
            f"input {name!r}: size {said['size']!r} is not HEIGHTxWIDTH", fix="Write 480x640"
        )
    found = [sizes.get(letter) for letter in "HW"]
    if not all(isinstance(side, int) for side in found):
        raise UserError(
            f"input {name!r} has no fixed size, and nobody says which to take",
            fix="Give --size HEIGHTxWIDTH",
        )
    return [int(side) for side in found if side is not None]


def _resize(name: str, said: Mapping[str, Any]) -> str:
    how, separator, shorter = str(said.get("resize", "")).partition(":")
    choice(name, {"resize": how} if how else {}, "resize", RESIZES)
    if separator and not (how == "crop" and shorter.isdigit() and int(shorter) > 0):
        raise UserError(
            f"input {name!r}: resize {said['resize']!r}: only crop takes a number",
            fix="Write for example crop:256, which makes the shorter side 256 pixels first",
        )
    return str(said["resize"])
