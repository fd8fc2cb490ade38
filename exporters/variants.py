"""Every exporter family and every named variant, and how to find them.

A *family* is one exporter package. Stages further down never ask which network a model file is;
where they need the network's own knowledge (turning camera frames into inputs) they go through
``family_of(spec)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelFile, ModelSpec

Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``."""


@dataclass(frozen=True)
class Variant:
    """A named configuration of an exporter.

    Attributes:
        published: numbers its authors published, with units in the keys; never measured by us.
    """

    name: str
    family: str
    task: str
    summary: str
    published: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportResult:
    """A written model file and what the export found out.

    Attributes:
        report: mapping report of the checkpoint, agreement with eager torch, times in seconds.
    """

    model: ModelFile
    report: Mapping[str, Any]


class Family(Protocol):
    """What a family's package must offer at its top level."""

    VARIANTS: tuple[Variant, ...]

    def export(
        self, variant: str, output: Path, *, progress: Progress | None = None, **options: Any
    ) -> ExportResult: ...

    def prepare(self, frame: Any, spec: ModelSpec) -> dict[str, NDArray[np.generic]]:
        """Turn a reader's frame into the model's inputs, from the self-description alone."""
        ...

    def rig_mismatch(self, rig: Any, spec: ModelSpec) -> float:
        """How far a rig is from the baked one, 0 to 1; 0 where none is baked in."""
        ...


_FAMILIES = {
    "illm": "exporters.illm",
    "flashocc": "exporters.flashocc",
    "panoptic_flashocc": "exporters.panoptic_flashocc",
    "stereo_flashocc": "exporters.stereo_flashocc",
    "pillarhist": "exporters.pillarhist",
}


def family(name: str) -> Family:
    if name not in _FAMILIES:
        raise UserError(f"unknown model family {name!r}", fix=did_you_mean(name, _FAMILIES))
    module: Any = importlib.import_module(_FAMILIES[name])
    return module  # type: ignore[no-any-return]  # a module is checked against Family in tests


def family_of(spec: ModelSpec) -> Family:
    return family(spec.family)


def variants() -> dict[str, Variant]:
    return {v.name: v for name in _FAMILIES for v in family(name).VARIANTS}


def find_variant(name: str) -> Variant:
    known = variants()
    if name not in known:
        raise UserError(f"unknown variant {name!r}", fix=did_you_mean(name, known))
    return known[name]


def export(
    variant: str, output: Path | str, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write the model file of ``variant``; the options are those of its family's ``export``.

    Raises:
        UserError: unknown variant or option, bad checkpoint or geometry, or ``output`` exists.
        MissingRequirementError: a library that exporting needs is not installed.
    """
    exporter = family(find_variant(variant).family)
    return exporter.export(variant, Path(output), progress=progress, **options)
