"""Ranges of input shapes, in the words of trtexec: ``images:1x3x224x224,state:1x64``.

An engine for dynamic axes is built for an *optimization profile*: for every input the smallest, the
most likely and the largest shape. Sizes are joined by ``x``, inputs by commas, and the last colon
parts the name from the sizes, because names may hold colons. A scalar has nothing behind its colon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporters.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from runtimes.base import TensorInfo

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """Shapes of one input: ``minimum <= optimum <= maximum``, axis by axis."""

    name: str
    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        ranks = {len(self.minimum), len(self.optimum), len(self.maximum)}
        if len(ranks) > 1:
            raise UserError(
                f"the shapes of input {self.name!r} have different ranks: {self}",
                fix="Give as many sizes in each of --min-shapes, --opt-shapes and --max-shapes",
            )
        for low, middle, high in zip(self.minimum, self.optimum, self.maximum, strict=True):
            if not low <= middle <= high:
                raise UserError(
                    f"the shapes of input {self.name!r} do not rise from smallest to largest: "
                    f"{self}",
                    fix="Give --min-shapes <= --opt-shapes <= --max-shapes on every axis",
                )

    def __str__(self) -> str:
        return " .. ".join(_text(shape) for shape in (self.minimum, self.optimum, self.maximum))

    def to_json(self) -> dict[str, list[int]]:
        return {
            "min": list(self.minimum),
            "opt": list(self.optimum),
            "max": list(self.maximum),
        }


def parse_shapes(text: str) -> dict[str, Shape]:
    """``"a:1x3,b:2"`` as ``{"a": (1, 3), "b": (2,)}``.

    Raises:
        UserError: names the part that is no ``NAME:SIZExSIZE``.
    """
    shapes: dict[str, Shape] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, sizes = part.rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.split("x")) if sizes else ()
        except ValueError:
            shape = (-1,)
        if not colon or not name or any(size < 0 for size in shape):
            raise UserError(
                f"{part!r} is no input shape", fix="Write NAME:SIZExSIZE, like images:1x3x224x224"
            )
        if name in shapes:
            raise UserError(f"input {name!r} has two shapes in {text!r}", fix="Give it once")
        shapes[name] = shape
    return shapes


def shape_ranges(minimum: str = "", optimum: str = "", maximum: str = "") -> tuple[ShapeRange, ...]:
    """Ranges from trtexec's three texts; ``optimum`` alone means exactly this shape.

    Raises:
        UserError: an input lacks one of the three, or its shapes do not rise.
    """
    low, middle, high = (parse_shapes(text) for text in (minimum, optimum, maximum))
    if not low and not high:
        return tuple(ShapeRange(name, shape, shape, shape) for name, shape in middle.items())
    names = list(dict.fromkeys((*low, *middle, *high)))
    options = {"--min-shapes": low, "--opt-shapes": middle, "--max-shapes": high}
    for name in names:
        absent = [option for option, shapes in options.items() if name not in shapes]
        if absent:
            raise UserError(
                f"input {name!r} has no shape in {', '.join(absent)}",
                fix="Give all three, or --opt-shapes alone for a fixed shape",
            )
    return tuple(ShapeRange(name, low[name], middle[name], high[name]) for name in names)


def require_profile(inputs: Iterable[TensorInfo], ranges: Iterable[ShapeRange]) -> None:
    """Check that ``ranges`` say everything about ``inputs`` that the model leaves open.

    Axes with the same name must get the same sizes: an engine would take other feeds and then
    fail in the middle of the network.

    Raises:
        UserError: an unknown input, another rank or fixed size, a dynamic input without a range.
    """
    known = {info.name: info for info in inputs}
    given = {shape.name: shape for shape in ranges}
    for name in given:
        if name not in known:
            raise UserError(
                f"a shape is given for {name!r}, which is no input of the model",
                fix=did_you_mean(name, known),
            )
    axes: dict[str, tuple[str, Shape]] = {}
    for info in known.values():
        if info.name in given:
            _require_fit(info, given[info.name])
            _require_agreement(info, given[info.name], axes)
        elif any(isinstance(size, str) for size in info.shape):
            raise UserError(
                f"input {info.name!r} has dynamic axes {list(info.shape)}, and no range is given "
                "for them",
                fix=f"Add, with your sizes: {_example(info)}; or export the model with fixed sizes",
            )


def _require_fit(info: TensorInfo, shape: ShapeRange) -> None:
    if len(shape.optimum) != len(info.shape):
        raise UserError(
            f"input {info.name!r} has {len(info.shape)} axes {list(info.shape)}, its range has "
            f"{len(shape.optimum)}: {shape}",
            fix=f"Write it like {_example(info)}",
        )
    for axis, size in enumerate(info.shape):
        sizes = {shape.minimum[axis], shape.optimum[axis], shape.maximum[axis]}
        if isinstance(size, int) and sizes != {size}:
            raise UserError(
                f"axis {axis} of input {info.name!r} is {size} in the model, its range says "
                f"{shape}",
                fix=f"Write {size} on axis {axis}, or export the model with that axis dynamic",
            )


def _require_agreement(
    info: TensorInfo, shape: ShapeRange, axes: dict[str, tuple[str, Shape]]
) -> None:
    for axis, size in enumerate(info.shape):
        if not isinstance(size, str) or size == "?":
            continue
        mine = (shape.minimum[axis], shape.optimum[axis], shape.maximum[axis])
        other, theirs = axes.setdefault(size, (info.name, mine))
        if mine != theirs:
            raise UserError(
                f"axis {size!r} is {theirs} of input {other!r} and {mine} of input {info.name!r}",
                fix="Axes with one name have one size: give them the same range",
            )


def _example(info: TensorInfo) -> str:
    def filled(dynamic: int) -> str:
        return _text([size if isinstance(size, int) else dynamic for size in info.shape])

    sizes = (("min", 1), ("opt", 1), ("max", 8))
    return " ".join(f"--{word}-shapes {info.name}:{filled(size)}" for word, size in sizes)


def _text(shape: Iterable[int]) -> str:
    return "x".join(str(size) for size in shape)
