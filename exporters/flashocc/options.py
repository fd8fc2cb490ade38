"""The options of a FlashOcc export: from Python, from the command line and from recipes alike."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from exporters.errors import UserError, did_you_mean
from exporters.flashocc.config import CONFIGS, M0, Config
from exporters.flashocc.default_rig import default_rig
from exporters.flashocc.geometry import Grid, Range
from exporters.flashocc.rig import Rig
from exporters.flashocc.shipped import SHIPPED

RIG_INPUT = "input"
INPUTS = ("uint8", "camera", "float")
ANY_VARIANT = "flashocc"
"""The variant name that means: recognise the network from the checkpoint."""

Options = TypeVar("Options", bound="ExportOptions")


@dataclass(frozen=True)
class ExportOptions:
    """What can be chosen; every field may also be the text that the command line takes.

    Attributes:
        checkpoint: weights; None for those that come with edgeport, or seeded random ones.
        weights: ``trained`` or ``random`` where no checkpoint is given; None for trained ones of
            the variants that have them.
        rig: geometry that is baked in; ``"input"`` to take rig tables as inputs of the model;
            None for a synthetic one.
        reference_rig: with ``rig="input"``: gives the cameras' names and the capacity of the
            tables; None for a synthetic one.
        input: ``uint8`` images of the network's size, ``camera`` for the cameras' own pictures,
            resized in the graph, or ``float`` planes that the caller normalised.
        logits: return logits in place of labels.
        seed: of random weights and of generated images.
        image_size: height and width that the network sees.
        cameras: number of cameras of the synthetic rig, where no rig is given.
        depth: first depth bin, end (excluded) and step, metres.
        grid: ranges of x, y, z_out, metres.
        classes: names in label order, or a file with one a line.
        samples: inputs on which the exported graph is compared with eager torch; None for
            generated ones.
        overwrite: replace the output where it exists.
    """

    checkpoint: Path | None = None
    weights: str | None = None
    rig: Rig | str | None = None
    reference_rig: Rig | None = None
    input: str = "uint8"
    logits: bool = False
    seed: int = 0
    image_size: tuple[int, int] | None = None
    cameras: int | None = None
    depth: Range | None = None
    grid: Grid | None = None
    classes: tuple[str, ...] | None = None
    samples: Sequence[Mapping[str, Any]] | None = None
    overwrite: bool = False

    @classmethod
    def parse(cls: type[Options], options: Mapping[str, Any]) -> Options:
        """Options from texts or values.

        Raises:
            UserError: unknown name or malformed value.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        for name in options:
            if name not in known:
                raise UserError(f"unknown export option {name!r}", fix=did_you_mean(name, known))
        values = {name: value for name, value in options.items() if value is not None}
        for name, parser in _PARSERS.items():
            if name in values:
                values[name] = parser(values[name])
        result = cls(**values)
        if result.input not in INPUTS:
            fix = f"Choose {', '.join(INPUTS[:-1])} or {INPUTS[-1]}"
            raise UserError(f"--input is {result.input!r}", fix=fix)
        if result.cameras is not None and (result.rig or result.reference_rig) not in (
            None,
            "input",
        ):
            raise UserError(
                "--cameras and a rig were both given; the rig says how many cameras there are",
                fix="Leave --cameras out",
            )
        if result.reference_rig is not None and result.rig != RIG_INPUT:
            raise UserError("--reference-rig belongs to --rig input", fix="Give --rig FILE alone")
        return result

    def find_checkpoint(self, variant: str) -> Path | None:
        """The weights' file; None for random weights."""
        if self.checkpoint is not None:
            if self.weights is not None:
                raise UserError("--checkpoint and --weights were both given", fix="Give one")
            return self.checkpoint
        changed = {name: getattr(self, name) is not None for name in ("grid", "classes", "depth")}
        return SHIPPED.find(variant, self.weights, changed)

    @property
    def takes_rig(self) -> bool:
        """Whether the model takes rig tables as inputs."""
        return self.rig == RIG_INPUT

    @property
    def takes_pictures(self) -> bool:
        """Whether the model takes the cameras' own pictures and resizes them itself."""
        return self.input == "camera"

    @property
    def given_rig(self) -> Rig:
        """The rig to bake in, or to size the tables by."""
        if isinstance(self.rig, Rig):
            return self.rig
        return self.reference_rig or default_rig(6 if self.cameras is None else self.cameras)

    @property
    def rig_is_synthetic(self) -> bool:
        return not isinstance(self.rig, Rig) and self.reference_rig is None

    def configure(self, base: Config) -> Config:
        """``base`` with the options that concern the network."""
        view = base.view
        if self.image_size is not None:
            view = dataclasses.replace(view, image_size=self.image_size)
        if self.depth is not None:
            view = dataclasses.replace(view, depth=self.depth)
        grid = base.grid if self.grid is None else self.grid
        classes = base.classes if self.classes is None else self.classes
        return dataclasses.replace(base, view=view, grid=grid, classes=classes)


def base_config(variant: str) -> Config:
    """The configuration that ``variant`` starts from.

    Raises:
        UserError: unknown variant.
    """
    if variant == ANY_VARIANT:
        return M0
    if variant not in CONFIGS:
        known = [*CONFIGS, ANY_VARIANT]
        raise UserError(f"unknown variant {variant!r}", fix=did_you_mean(variant, known))
    return CONFIGS[variant]


def _parse_rig(value: Any) -> Rig | str:
    if isinstance(value, Rig) or value == RIG_INPUT:
        return value  # type: ignore[no-any-return]
    return Rig.load(Path(value))


def _parse_image_size(value: Any) -> tuple[int, int]:
    """``256x704`` or ``[256, 704]``."""
    found = re.fullmatch(r"(\d+)x(\d+)", value) if isinstance(value, str) else value
    if found is None:
        raise UserError(f"image size {value!r} is not HEIGHTxWIDTH", fix="For example 256x704")
    height, width = found.groups() if isinstance(found, re.Match) else found
    return int(height), int(width)


def _parse_range(value: Any) -> Range:
    """``1:45:0.5`` or ``[1, 45, 0.5]``."""
    parts = value.split(":") if isinstance(value, str) else value
    try:
        low, high, step = (float(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"range {value!r} is not LOW:HIGH:STEP", fix="For example 1:45:0.5"
        ) from error
    return low, high, step


def _parse_grid(value: Any) -> Grid:
    """``-40:40:0.4,-40:40:0.4,-1:5.4:0.4`` (x, y, z) or a mapping with those keys."""
    if isinstance(value, Grid):
        return value
    parts = value
    if isinstance(value, str):
        parts = value.split(",")
    elif isinstance(value, Mapping):
        unknown = set(value) - {"x", "y", "z"}
        if unknown or len(value) != 3:
            raise UserError(f"grid {dict(value)} needs exactly the keys x, y and z")
        parts = [value["x"], value["y"], value["z"]]
    if len(parts) != 3:
        raise UserError(
            f"grid {value!r} is not three ranges x,y,z",
            fix="For example --grid=-40:40:0.4,-40:40:0.4,-1:5.4:0.4",
        )
    x, y, z = (_parse_range(part) for part in parts)
    return Grid(x=x, y=y, z_pool=(z[0], z[1], z[1] - z[0]), z_out=z)


def _parse_classes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | Path):
        try:
            lines = Path(value).read_text().splitlines()
        except OSError as error:
            raise UserError(f"cannot read class names from {value}: {error.strerror}") from error
        value = [line.strip() for line in lines if line.strip()]
    return tuple(str(name) for name in value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "checkpoint": Path,
    "rig": _parse_rig,
    "reference_rig": lambda value: value if isinstance(value, Rig) else Rig.load(Path(value)),
    "image_size": _parse_image_size,
    "depth": _parse_range,
    "grid": _parse_grid,
    "classes": _parse_classes,
}
