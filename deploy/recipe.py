"""The recipe: what ``edgeport run`` does, as a strict YAML file.

Read strictly: an unknown key, a wrong type or a name that does not exist is an error with its line
and the nearest word, before any work starts. Paths are relative to the recipe's own folder;
``$NAME`` in them is taken from the environment. ``docs/recipes.md`` explains every key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from deploy.contract.contracts import Contract
from deploy.recipe_parts import (
    FP16,
    FP32,
    INT8,
    BenchmarkPart,
    BoardPart,
    EnginePart,
    LanguagePart,
    ModelPart,
    QuantizationPart,
    SamplesPart,
    VerifyPart,
)
from deploy.strict import Location, StrictPart, explain
from deploy.yamlfile import read_yaml
from exporters.errors import UserError, did_you_mean
from exporters.variants import find_variant

_OF_SAMPLES = ("quantization", "benchmark", "verify")


class Recipe(StrictPart):
    """A whole recipe.

    Attributes:
        title: heading of the report; else the variant.
        model: the network.
        samples: where samples come from.
        quantization: null for no INT8 files.
        language: integer-only files of a language model; then nothing of samples is done.
        engines: to build.
        boards: files that run on a board.
        benchmark: null to time nothing.
        verify: null to compare nothing.
        contract: what must hold.
        licences: of weights and sample sets, by SPDX identifier; carried into the manifest.
    """

    title: str = ""
    model: ModelPart
    samples: SamplesPart = SamplesPart()
    quantization: QuantizationPart | None = QuantizationPart()
    language: LanguagePart | None = None
    engines: list[EnginePart] = Field(default_factory=list)
    boards: list[BoardPart] = Field(default_factory=list)
    benchmark: BenchmarkPart | None = BenchmarkPart()
    verify: VerifyPart | None = VerifyPart()
    contract: Contract = Contract()
    licences: dict[Literal["weights", "calibration", "evaluation", "validation"], str] = Field(
        default_factory=dict
    )

    @model_validator(mode="before")
    @classmethod
    def _language_has_no_samples(cls, data: Any) -> Any:
        """What works on samples is left out where nobody asks for it."""
        if not isinstance(data, dict) or data.get("language") is None:
            return data
        return {**dict.fromkeys(_OF_SAMPLES), **data}

    @model_validator(mode="after")
    def _language_by_itself(self) -> Recipe:
        if self.language is None:
            return self
        others = [key for key in (*_OF_SAMPLES, "engines", "boards") if getattr(self, key)]
        if others:
            raise ValueError(f"language and {others[0]} exclude each other: it works on texts")
        if self.model.file is not None or self.model.checkpoint is None:
            raise ValueError("language needs model.variant and model.checkpoint")
        return self

    @model_validator(mode="after")
    def _samples_for_every_part(self) -> Recipe:
        if self.boards and self.verify is None:
            raise ValueError("boards compare with FP32, which verify: null leaves out")
        if self.samples.calibration is None and self.quantization is not None:
            raise ValueError("samples.calibration is missing, which quantization needs")
        judged = [key for key in ("benchmark", "verify") if getattr(self, key) is not None]
        if self.samples.evaluation is None and judged:
            raise ValueError(f"samples.evaluation is missing, which {judged[0]} needs")
        budget = self.quantization is not None and self.quantization.budget is not None
        if budget != (self.samples.validation is not None):
            raise ValueError("quantization.budget and samples.validation belong together")
        return self

    @property
    def metric(self) -> str | None:
        """The task's metric that somebody named."""
        return None if self.verify is None else self.verify.metric

    @property
    def has_waterfall(self) -> bool:
        return self.verify is not None and self.verify.waterfall > 0

    @property
    def int8_roles(self) -> list[str]:
        policies = [] if self.quantization is None else self.quantization.policies
        return [f"{INT8}-{policy}" for policy in policies]

    @property
    def roles(self) -> list[str]:
        """Model files that the run makes, FP16 only where something asks for it."""
        asked = [engine.source for engine in self.engines] + self.timed_roles
        asked += [board.source for board in self.boards]
        return [FP32, *([FP16] if FP16 in asked else []), *self.int8_roles, *self.language_roles]

    @property
    def language_roles(self) -> list[str]:
        return [] if self.language is None else [bits.lower() for bits in self.language.bits]

    @property
    def timed_roles(self) -> list[str]:
        if self.benchmark is None:
            return []
        if self.benchmark.files is not None:
            return self.benchmark.files
        return [FP32, *(role for role in self.int8_roles if role.endswith("-onnxruntime"))]


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UserError: unreadable, an unknown key, a wrong type, or a name that does not exist; the
            message names the key, its line and the nearest word.
    """
    data, lines = read_yaml(path)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"{path}: {explain(error, Recipe, lines)}", fix="See docs/recipes.md"
        ) from error
    _Names(path, lines).check(recipe)
    return _with_absolute_paths(recipe, path.resolve().parent, str(path))


class _Names:
    """Checks that every name in a recipe exists, before any work starts."""

    def __init__(self, path: Path, lines: dict[Location, int]) -> None:
        self._path = path
        self._lines = lines

    def check(self, recipe: Recipe) -> None:
        from calibration.options import SPLITS
        from calibration.qdq.policies import POLICIES
        from calibration.samples.findings import ALL, CODES
        from calibration.scales.methods import SCALES
        from calibration.sensitivity.budget import parse_budget
        from runtimes import names as runtime_names
        from runtimes import targets

        if recipe.model.variant is not None:
            find_variant(recipe.model.variant)
        if recipe.quantization is not None:
            for index, policy in enumerate(recipe.quantization.policies):
                self._known(("quantization", "policies", index), policy, POLICIES, "policy")
            self._known(("quantization", "scales"), recipe.quantization.scales, SCALES, "method")
            self._known(("quantization", "split"), recipe.quantization.split, SPLITS, "split")
            if recipe.quantization.budget is not None:
                parse_budget(recipe.quantization.budget)
        for index, bits in enumerate(recipe.language.bits if recipe.language else ()):
            known = [f"W{w}A{a}" for w in (8, 6, 4) for a in (8, 6, 4)]
            self._known(("language", "bits", index), bits, known, "precision")
        for index, code in enumerate(recipe.samples.i_know):
            self._known(("samples", "i_know", index), code, [*CODES, ALL], "finding")
        roles = [FP32, FP16, *recipe.int8_roles]
        for index, engine in enumerate(recipe.engines):
            self._known(("engines", index, "from"), engine.source, roles, "file")
            self._known(("engines", index, "runtime"), engine.runtime, runtime_names(), "runtime")
            if engine.target is not None:
                targets.load().get(engine.target)
        for index, board in enumerate(recipe.boards):
            self._known(("boards", index, "from"), board.source, roles, "file")
        for index, role in enumerate(recipe.timed_roles):
            self._known(("benchmark", "files", index), role, roles, "file")
        engines = [engine.name for engine in recipe.engines]
        for index, name in enumerate(recipe.contract.files or ()):
            self._known(("contract", "files", index), name, [*recipe.roles, *engines], "file")

    def _known(self, location: Location, name: str, known: Iterable[str], kind: str) -> None:
        known = list(known)
        if name not in known:
            line = self._lines.get(location)
            where = f"{self._path}{f', line {line}' if line else ''}"
            raise UserError(f"{where}: unknown {kind} {name!r}", fix=did_you_mean(name, known))


def _with_absolute_paths(recipe: Recipe, folder: Path, source: str) -> Recipe:
    def located(value: str | None) -> str | None:
        return None if value is None else str(folder / expand(value, source))

    boards = [
        part.model_copy(update={"board": _sample_source(part.board, folder, source)})
        for part in recipe.boards
    ]
    model = recipe.model.model_copy(
        update={
            "checkpoint": located(recipe.model.checkpoint),
            "file": located(recipe.model.file),
            "rig": recipe.model.rig if recipe.model.rig == "input" else located(recipe.model.rig),
        }
    )
    sources = recipe.samples.model_dump(include={"calibration", "evaluation", "validation"})
    located_sources = {
        role: _sample_source(value, folder, source) for role, value in sources.items() if value
    }
    updated = {"model": model, "samples": recipe.samples.model_copy(update=located_sources)}
    language = recipe.language and recipe.language.model_copy(
        update={
            "text": located(recipe.language.text),
            "options": {
                key: located(value) if key in ("text", "factors") else value
                for key, value in recipe.language.options.items()
            },
        }
    )
    return recipe.model_copy(update={**updated, "boards": boards, "language": language})


def _sample_source(value: str, folder: Path, source: str) -> str:
    """A source keeps its scheme, ``synthetic:8``; anything else is a path."""
    value = expand(value, source)
    return value if re.match(r"[a-z-]+:", value) else str(folder / value)


def expand(value: str, source: str) -> str:
    """``$NAME`` and ``~`` replaced.

    Raises:
        UserError: a variable is not set.
    """
    expanded = os.path.expandvars(Path(value).expanduser() if value.startswith("~") else value)
    missing = re.search(r"\$\{?(\w+)", str(expanded))
    if missing:
        raise UserError(
            f"{source}: {value!r} names the variable {missing[1]}, which is not set",
            fix=f"export {missing[1]}=…",
        )
    return str(expanded)
