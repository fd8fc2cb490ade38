"""The options of a pillar detector's export: from Python, the command line and recipes alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exporters.errors import UserError, did_you_mean
from exporters.pillarhist.config import (
    CHOICES,
    CONFIGS,
    AnchorHead,
    Config,
    HardPillars,
    Histogram,
    PillarGrid,
)
from exporters.shipped import Shipped

_OF_HISTOGRAM = ("bins", "count_mode", "xy_mode", "proj")
_OF_WEIGHTS = (*_OF_HISTOGRAM, "max_points", "grid")
"""What makes the network another one than was trained."""

SHIPPED = Shipped(
    Path(__file__).parent / "trained",
    {name: f"{name}.safetensors" for name in ("pillarhist-mini", "pointpillars-mini")},
    "its own grid and encoder",
)


@dataclass(frozen=True)
class ExportOptions:
    """What can be chosen; None leaves the variant's own value.

    Attributes:
        checkpoint: weights; None for those that come with edgeport, or seeded random ones.
        weights: ``trained`` or ``random`` where no checkpoint is given; None for trained ones of
            the variants that have some.
        seed: of random weights and generated points.
        points: rows of the input; a cloud has at most so many points.
        surplus: ``refuse`` more points, or ``thin`` them to an even choice (by readers).
        bins, count_mode, xy_mode, proj: of the PillarHist encoder, see ``config.Histogram``.
        max_points: of a pillar, in PointPillars' encoder.
        max_pillars: with points, in PointPillars' encoder and PillarHist's.
        grid: ranges of x, y (low, high, cell) and z (low, high, high - low), metres.
        nms: ``rotated``, ``peak`` (centre heads) or ``none``.
        candidates: boxes of a sub-head that suppression looks at.
        boxes: rows of the output.
        samples: inputs on which the exported graph is compared with eager torch.
        overwrite: replace the output where it exists.
    """

    checkpoint: Path | None = None
    weights: str | None = None
    seed: int = 0
    points: int | None = None
    surplus: str = "refuse"
    bins: int | None = None
    count_mode: str | None = None
    xy_mode: str | None = None
    proj: str | None = None
    max_points: int | None = None
    max_pillars: int | None = None
    grid: PillarGrid | None = None
    nms: str = "rotated"
    candidates: int | None = None
    boxes: int | None = None
    samples: Sequence[Mapping[str, Any]] | None = None
    overwrite: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ExportOptions:
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
        for name in ("nms", "surplus"):
            if values.get(name, CHOICES[name][0]) not in CHOICES[name]:
                fix = did_you_mean(values[name], CHOICES[name])
                raise UserError(f"--{name} is {values[name]!r}", fix=fix)
        return cls(**values)

    def find_checkpoint(self, variant: str) -> Path | None:
        """The weights' file; None for random weights.

        Raises:
            UserError: there is none, or the other options do not go with it.
        """
        if self.checkpoint is not None:
            if self.weights is not None:
                raise UserError("--checkpoint and --weights were both given", fix="Give one")
            return self.checkpoint
        changed = {name: getattr(self, name) is not None for name in _OF_WEIGHTS}
        return SHIPPED.find(variant, self.weights, changed)

    def configure(self, variant: str) -> Config:
        """The variant's configuration with these options.

        Raises:
            UserError: unknown variant, or options that its encoder or head does not have.
        """
        if variant not in CONFIGS:
            raise UserError(f"unknown variant {variant!r}", fix=did_you_mean(variant, CONFIGS))
        config = CONFIGS[variant]
        own = {name: getattr(self, name) for name in _OF_HISTOGRAM}
        self._require(config, variant, (Histogram,), own)
        self._require(config, variant, (HardPillars,), {"max_points": self.max_points})
        capped = (HardPillars, Histogram)
        self._require(config, variant, capped, {"max_pillars": self.max_pillars})
        if self.nms == "peak" and isinstance(config.head, AnchorHead):
            raise UserError(
                f"--nms peak: {variant} has anchors and no heat map", fix="Choose rotated or none"
            )
        parts = own if isinstance(config.encoder, Histogram) else {"points": self.max_points}
        parts = {**parts, "pillars": self.max_pillars}
        given = {name: value for name, value in parts.items() if value is not None}
        numbers = {
            "rows": self.points,
            "candidates": self.candidates,
            "boxes": self.boxes,
            "grid": self.grid,
        }
        return replace(
            config,
            encoder=replace(config.encoder, **given) if given else config.encoder,  # type: ignore[arg-type]
            **{name: value for name, value in numbers.items() if value is not None},  # type: ignore[arg-type]
        )

    @staticmethod
    def _require(
        config: Config, variant: str, kinds: tuple[type, ...], given: Mapping[str, Any]
    ) -> None:
        for name, value in given.items():
            if value is not None and not isinstance(config.encoder, kinds):
                fitting = [k for k, v in CONFIGS.items() if isinstance(v.encoder, kinds)]
                raise UserError(
                    f"--{name.replace('_', '-')} means nothing to {variant}",
                    fix=f"It is for {', '.join(fitting)}",
                )


def _parse_grid(value: Any) -> PillarGrid:
    """``0:69.12:0.16,-39.68:39.68:0.16,-3:1:4`` (x, y, z): LOW:HIGH:CELL each."""
    if isinstance(value, PillarGrid):
        return value
    try:
        texts = value.split(",") if isinstance(value, str) else value
        x, y, z = (
            tuple(float(n) for n in (text.split(":") if isinstance(text, str) else text))
            for text in texts
        )
        (x0, x1, dx), (y0, y1, dy), (z0, z1, *_) = x, y, z
    except (TypeError, ValueError) as error:
        raise UserError(
            f"grid {value!r} is not three ranges x,y,z",
            fix="For example --grid=0:69.12:0.16,-39.68:39.68:0.16,-3:1:4",
        ) from error
    if not (x0 < x1 and y0 < y1 and z0 < z1 and dx > 0 and dy > 0):
        raise UserError(f"grid {value!r}: every range goes up, and cells are above 0")
    return PillarGrid((x0, y0, z0), (x1, y1, z1), (dx, dy))


_PARSERS: dict[str, Callable[[Any], Any]] = {"checkpoint": Path, "grid": _parse_grid}
