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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deploy.strict import Location, explain
from deploy.yamlfile import read_yaml
from exporters.errors import UserError, did_you_mean
from exporters.variants import find_variant

FP32, FP16, INT8 = "fp32", "fp16", "int8"


class _Part(BaseModel):
    # "model_" is pydantic's own prefix; a recipe part has no methods that it could hide
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class ModelPart(_Part):
    """The network: a variant to export, or a model file that is there already.

    Attributes:
        variant: a name of ``edgeport models``.
        file: a model file; then nothing is exported.
        checkpoint: weights; None for seeded random ones, which is stated beside every number.
        rig: a rig file to bake in, ``input`` to take the geometry as inputs, None for a synthetic.
        options: further options of the exporter, as on the command line: ``image_size: 256x704``.
    """

    variant: str | None = None
    file: str | None = None
    checkpoint: str | None = None
    seed: int = 0
    rig: str | None = None
    input: Literal["uint8", "camera", "float"] = "uint8"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self) -> ModelPart:
        if (self.variant is None) == (self.file is None):
            raise ValueError("give either variant or file")
        return self


class SamplesPart(_Part):
    """Where samples come from: a folder, an ``.npz`` or ``synthetic:COUNT[:SEED]``.

    Attributes:
        calibration: what INT8 scales are taken from.
        evaluation: what files are compared, timed and drawn on. Never the calibration set.
        validation: what a budget is searched with; neither of the other two.
        i_know: findings of the calibration-set doctor to go on in spite of, as ``--i-know``.
    """

    calibration: str
    evaluation: str
    validation: str | None = None
    i_know: list[str] = Field(default_factory=list)


class QuantizationPart(_Part):
    """How INT8 is made; one file for each policy, from one pass over the calibration set.

    Attributes:
        rest: type of what is not quantized; the file for ONNX Runtime stays at FP32, because its
            CPU kernels have no FP16.
        rounding: of weights: ``nearest`` or ``adaround``.
        correct_bias: as ``quantize --correct-bias``; None where it is affordable.
        weights: ``int8``, or ``int4`` with ``block`` inputs to a scale (0: one scale a channel).
        keep_float: node names, or prefixes of them, that stay in float.
        budget: what every file has to keep on the validation set, as ``quantize --budget``.
        metric: what ``metric`` means in it; None for that of ``verify``.
    """

    policies: list[str] = Field(default_factory=lambda: ["onnxruntime", "tensorrt"], min_length=1)
    scales: str = "auto"
    split: str = "none"
    rounding: str = "nearest"
    correct_bias: bool | None = None
    weights: str = "int8"
    block: int = 0
    rest: Literal["fp32", "fp16"] = "fp32"
    keep_float: list[str] = Field(default_factory=list)
    budget: str | None = None
    metric: str | None = None


class EnginePart(_Part):
    """One engine to build.

    Attributes:
        source: role of the file it is built from: ``fp32``, ``fp16``, ``int8-POLICY``.
        required: without it the verdict is "no evidence"; else a missing builder is only noted.
    """

    source: str = Field(alias="from")
    runtime: str = "tensorrt"
    target: str | None = None
    required: bool = False


class BenchmarkPart(_Part):
    """Interleaved timing.

    Attributes:
        runs: measured rounds; p50 needs 6 of them, p90 36 and p99 368.
        files: roles to time, the first is the reference; None for FP32 and every INT8 file that
            was made for ONNX Runtime.
        min_speedup: lower bound of the last file's ratio to the first must reach this.
    """

    runs: int = Field(default=30, ge=1)
    warmup: int = Field(default=3, ge=0)
    threads: int | None = Field(default=None, ge=1)
    files: list[str] | None = None
    min_speedup: float | None = Field(default=None, gt=0)


class ThresholdsPart(_Part):
    """What every quantized file must reach; see ``deploy.comparison.Thresholds``."""

    min_agreement: float | None = Field(default=None, ge=0, le=1)
    min_sqnr_db: float | None = None
    max_metric_loss: float | None = None


class VerifyPart(_Part):
    """The comparison of every other file with FP32.

    Attributes:
        layers: compare at the quantization boundaries too.
        scenes: evaluation samples to draw in the report.
    """

    metric: str | None = None
    layers: bool = True
    scenes: int = Field(default=2, ge=0, le=30)
    thresholds: ThresholdsPart = ThresholdsPart()


class Recipe(_Part):
    """A whole recipe."""

    title: str = ""
    model: ModelPart
    samples: SamplesPart
    quantization: QuantizationPart = QuantizationPart()
    engines: list[EnginePart] = Field(default_factory=list)
    benchmark: BenchmarkPart | None = BenchmarkPart()
    verify: VerifyPart = VerifyPart()

    @model_validator(mode="after")
    def _budget_has_samples(self) -> Recipe:
        if (self.quantization.budget is None) != (self.samples.validation is None):
            raise ValueError("quantization.budget and samples.validation belong together")
        return self

    @property
    def int8_roles(self) -> list[str]:
        return [f"{INT8}-{policy}" for policy in self.quantization.policies]

    @property
    def roles(self) -> list[str]:
        """Model files that the run makes, FP16 only where something asks for it."""
        asked = [engine.source for engine in self.engines] + self.timed_roles
        return [FP32, *([FP16] if FP16 in asked else []), *self.int8_roles]

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
        for index, policy in enumerate(recipe.quantization.policies):
            self._known(("quantization", "policies", index), policy, POLICIES, "policy")
        self._known(("quantization", "scales"), recipe.quantization.scales, SCALES, "method")
        self._known(("quantization", "split"), recipe.quantization.split, SPLITS, "split")
        if recipe.quantization.budget is not None:
            parse_budget(recipe.quantization.budget)
        for index, code in enumerate(recipe.samples.i_know):
            self._known(("samples", "i_know", index), code, [*CODES, ALL], "finding")
        roles = [FP32, FP16, *recipe.int8_roles]
        for index, engine in enumerate(recipe.engines):
            self._known(("engines", index, "from"), engine.source, roles, "file")
            self._known(("engines", index, "runtime"), engine.runtime, runtime_names(), "runtime")
            if engine.target is not None:
                targets.load().get(engine.target)
        for index, role in enumerate(recipe.timed_roles):
            self._known(("benchmark", "files", index), role, roles, "file")

    def _known(self, location: Location, name: str, known: Iterable[str], kind: str) -> None:
        known = list(known)
        if name not in known:
            line = self._lines.get(location)
            where = f"{self._path}{f', line {line}' if line else ''}"
            raise UserError(f"{where}: unknown {kind} {name!r}", fix=did_you_mean(name, known))


def _with_absolute_paths(recipe: Recipe, folder: Path, source: str) -> Recipe:
    def located(value: str | None) -> str | None:
        return None if value is None else str(folder / expand(value, source))

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
    samples = recipe.samples.model_copy(update=located_sources)
    return recipe.model_copy(update={"model": model, "samples": samples})


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
