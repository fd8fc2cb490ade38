"""Where a run works: its recipe, its folder, its stages, its sample sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from calibration.samples import open_samples
from calibration.samples.doctor.overlap import hashes_of
from calibration.samples.rolling import rolled
from deploy.recipe import Recipe
from deploy.recipe_parts import FP32
from deploy.sessions import ONNX_SUFFIX
from deploy.stages import StageStore
from exporters.errors import UserError
from exporters.modelfile import ModelFile, ModelSpec
from exporters.witness import Traced
from runtimes.base import Progress

JSON = dict[str, Any]

ROLES = ("calibration", "validation", "evaluation")


class SampleSet:
    """An open sample set with hashes of its samples.

    Args:
        role: ``calibration`` or ``evaluation``, for errors.
        source: what ``open_samples`` takes.
        file: the float model that the samples are for; it fills in their states.
    """

    def __init__(self, role: str, source: str, file: ModelFile) -> None:
        self.samples = rolled(open_samples(source, file.require_spec()), file)
        self.role = role
        self.source = source
        self._digests: dict[str, str] | None = None
        if len(self.samples) == 0:
            raise UserError(f"samples.{role}: {source} holds no samples", fix="Name another source")

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the inputs by sample name; nothing is read where a manifest says it."""
        if self._digests is None:
            self._digests = dict(zip(self.samples.names, hashes_of(self.samples), strict=True))
        return self._digests

    def recall(self, digests: dict[str, str]) -> None:
        """Take ``digests`` from a run that has read or rendered every sample of this very set."""
        self._digests = digests

    @cached_property
    def sha256(self) -> str:
        """Of everything that the samples come from, labels too."""
        return self.samples.sha256

    def to_report(self) -> JSON:
        """The entry under ``samples.sets`` of ``report.json``."""
        groups, names = self.samples.groups, self.samples.names
        return {
            "role": self.role,
            "source": Path(self.source).name,  # a report is passed on: no folder of somebody's
            "samples": len(names),
            "scenes": len(set(groups)) if groups != names else None,
            "sha256": self.sha256,
        }

    def shared_with(self, other: SampleSet) -> list[str]:
        """Names of samples whose content is in ``other`` too."""
        there = set(other.digests.values())
        return [name for name, digest in self.digests.items() if digest in there]


@dataclass(frozen=True)
class Workplace:
    """What every stage of a run needs.

    Attributes:
        traced: what the export of this very run had before there was an ONNX graph, kept for the
            waterfall; empty where the export was remembered.
    """

    recipe: Recipe
    folder: Path
    store: StageStore
    progress: Progress | None = None
    traced: list[Traced] = field(default_factory=list)

    @property
    def threads(self) -> int | None:
        return self.recipe.benchmark.threads if self.recipe.benchmark is not None else None

    @cached_property
    def spec(self) -> ModelSpec:
        """The self-description of the exported model."""
        return self.file(FP32).require_spec()

    @cached_property
    def sets(self) -> dict[str, SampleSet]:
        """The recipe's sample sets by role."""
        sources = self.recipe.samples.model_dump(include=set(ROLES))
        file = self.file(FP32)
        return {role: SampleSet(role, sources[role], file) for role in ROLES if sources[role]}

    @property
    def evaluation(self) -> SampleSet | None:
        return self.sets.get("evaluation")

    @property
    def validation(self) -> SampleSet | None:
        """What a budget is searched with, where there is one."""
        return self.sets.get("validation")

    def required(self, role: str) -> SampleSet:
        """A set that the recipe was refused without."""
        return self.sets[role]

    def name(self, role: str) -> str:
        """Path of a model file inside the folder."""
        return f"models/{role}{ONNX_SUFFIX}"

    def path(self, role: str) -> Path:
        return self.folder / self.name(role)

    def rewritten(self, role: str) -> Path:
        """The float model that Q/DQ were placed in; only where it was equalized or split."""
        return self.folder / "rungs" / f"{role}.float{ONNX_SUFFIX}"

    def file(self, role: str) -> ModelFile:
        return ModelFile(self.path(role))

    def steps(self, stage: str) -> Progress | None:
        """A callback for a stage's own steps, ``stage: step`` as phase."""
        progress = self.progress
        if progress is None:
            return None
        return lambda step, done, total: progress(f"{stage}: {step}", done, total)
