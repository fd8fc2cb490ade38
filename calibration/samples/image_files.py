"""Image files, and folders of them as samples.

Sub-folders may be the classes of the images, or sequences that no split may cut; which of the two
nobody but the user knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.samples.lazy import LazySamples
from calibration.samples.pictures import IMAGE
from calibration.samples.sensors import SensorFrame, sample_of
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelSpec
from exporters.spans import DECODE, span

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

Folders = Literal["ignored", "classes", "sequences"]

_DEEP = ("I", "F")  # Pillow's modes of more than eight bits start with these
_ORIENTATION = 0x0112  # EXIF tag


def image_files(path: Path) -> list[Path]:
    """All images under ``path``, sorted by name; hidden files and folders are passed over."""
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def open_images(path: Path, spec: ModelSpec, folders: Folders = "ignored") -> LazySamples:
    """Every image under ``path`` as a sample.

    Args:
        folders: ``classes`` gives each sample the number of its sub-folder, in sorted order, as
            ``label.class``; ``sequences`` keeps each sub-folder in one set.

    Raises:
        UserError: no images, or no input takes one.
    """
    files = image_files(path)
    if not files:
        raise UserError(f"{path} holds no images", fix=f"Images end in {', '.join(SUFFIXES)}")
    if not any(item.semantics == IMAGE for item in spec.inputs):
        raise UserError(
            f"no input of {spec.variant} is known to take single images: "
            f"{', '.join(item.name for item in spec.inputs)}",
            fix="Say what it takes with --input NAME --color … --resize …; "
            "see docs/calibration-sets.md",
        )
    names = [file.relative_to(path).as_posix() for file in files]
    parents = [file.relative_to(path).parent.as_posix() for file in files]
    classes = sorted(set(parents))

    def frame(index: int) -> SensorFrame:
        number = np.array(classes.index(parents[index]), np.int64)
        return SensorFrame(
            names[index],
            image=lambda _: read_image(files[index], upright=True),
            labels={"class": number} if folders == "classes" else {},
        )

    return LazySamples(
        names,
        lambda index: sample_of(frame(index), spec),
        lambda index: {"name": names[index], "sha256": sha256_file(files[index])},
        spec,
        parents if folders == "sequences" else None,
    )


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """An image file as uint8 RGB ``[height, width, 3]``.

    Args:
        upright: turn it as its EXIF orientation says, as people and OpenCV see it.

    Raises:
        UserError: missing, truncated, no image, or of more than eight bits.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise MissingRequirementError(
            "Pillow is not installed; images cannot be read without it",
            fix="pip install 'edgeport[export]'",
        ) from error
    try:
        with span(DECODE), Image.open(path) as image:
            if image.mode.startswith(_DEEP):
                raise UserError(
                    f"image {path} has more than eight bits ({image.mode})",
                    fix="Convert it to eight bits as your training did",
                )
            turned = upright and image.getexif().get(_ORIENTATION, 1) != 1
            found = ImageOps.exif_transpose(image) if turned else image
            return np.asarray(found.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"image {path} is missing") from error
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(
            f"image {path} is truncated or no image: {error}", fix="Copy it again, or leave it out"
        ) from error
