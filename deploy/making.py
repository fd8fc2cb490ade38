"""The stages of a run that make files: export, quantize, cast, build."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.console import plain
from deploy.modelfacts import model_facts, weight_count
from deploy.provenance.loading import require_as_signed
from deploy.recipe_parts import FP16, FP32, EnginePart, ModelPart
from deploy.stages import StageWork
from deploy.workplace import Workplace
from exporters.errors import UserError
from exporters.files import sha256_bytes, sha256_file, write_bytes
from exporters.modelfile import ModelFile
from exporters.variants import export as export_variant
from exporters.witness import witnessed

if TYPE_CHECKING:
    from calibration import QuantizeOptions, QuantizeResult, Statistics

JSON = dict[str, Any]


def export(place: Workplace) -> JSON:
    """Write ``models/fp32.onnx`` from a checkpoint, from random weights, or by taking a file."""
    model = place.recipe.model
    inputs = {**model.model_dump(), "sha256": input_hashes(model)}

    def work(stage: StageWork) -> None:
        path = place.path(FP32)
        path.parent.mkdir(exist_ok=True)
        report: JSON = {}
        if model.file is not None:
            require_as_signed(Path(model.file))
            ModelFile(model.file).require_spec()
            write_bytes(path, Path(model.file).read_bytes(), overwrite=True)
            stage.notes.append(f"{Path(model.file).name} was taken as it is")
        else:
            with witnessed() as seen:
                report = export_to(place, path)
            if place.recipe.has_waterfall:
                place.traced.extend(seen)
            stage.notes.extend(report.get("notes", ()))
        stage.result = {
            "report": report,
            "parameters": report.get("parameters", weight_count(path)),
            "file": model_facts(FP32, path, place.folder),
        }
        stage.outputs = [place.name(FP32)]

    return place.store.run("export", inputs, work)


def input_hashes(model: ModelPart) -> JSON:
    files = {"checkpoint": model.checkpoint, "file": model.file}
    if model.rig != "input":
        files["rig"] = model.rig
    hashes = {}
    for key, value in files.items():
        if value is None:
            continue
        if not Path(value).exists():
            raise UserError(
                f"model.{key}: no file at {value}", fix="Paths are relative to the recipe's folder"
            )
        hashes[key] = _sha256_of(Path(value))
    return hashes


def _sha256_of(path: Path) -> str:
    """Of a file; of a folder, a language model's checkpoint, with the names of what is in it."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    listed = [f"{one.relative_to(path).as_posix()} {sha256_file(one)}" for one in files]
    return sha256_bytes("\n".join(listed).encode())


def export_to(place: Workplace, path: Path) -> JSON:
    """Export the recipe's variant to ``path``; the report of the export."""
    model = place.recipe.model
    assert model.variant is not None  # the recipe has either a variant or a file
    options: JSON = {**model.options, "overwrite": True}
    if place.recipe.language is not None:  # the reference; integers are stages of their own
        options["precision"] = "float"
    for key in ("checkpoint", "rig", "seed", "input"):  # a default is no option: not all have each
        if getattr(model, key) != ModelPart.model_fields[key].default:
            options[key] = getattr(model, key)
    return dict(
        export_variant(model.variant, path, progress=place.steps("export"), **options).report
    )


def quantize(place: Workplace) -> list[JSON]:
    """Observe the calibration set once, then write ``models/int8-POLICY.onnx`` for each policy."""
    from calibration import QuantizeOptions, observe
    from calibration import quantize as quantize_model

    part = place.recipe.quantization
    if part is None:
        return []
    model = place.file(FP32)
    evaluation = place.evaluation
    inputs = {
        **part.model_dump(),
        "model": model.sha256,
        "calibration": place.required("calibration").sha256,
        "evaluation": evaluation and evaluation.sha256,  # the doctor compares the two
        "i_know": place.recipe.samples.i_know,
        "validation": place.validation and place.validation.sha256,
        "metric": part.metric or place.recipe.metric,
    }
    i_know = tuple(place.recipe.samples.i_know)

    def work(stage: StageWork) -> None:
        statistics = observe(
            model,
            place.required("calibration").samples,
            i_know=i_know,
            evaluation=None if evaluation is None else evaluation.samples,
            progress=place.steps("quantize"),
        )
        stage.notes.append(f"one pass over the samples took {statistics.seconds:.1f} s")
        made = []
        for role, policy in zip(place.recipe.int8_roles, part.policies, strict=True):
            options = QuantizeOptions(
                policy=policy,
                scales=part.scales,
                split=part.split,
                equalize=part.equalize,
                rounding=part.rounding,
                correct_bias=part.correct_bias,
                weights=part.weights,
                block=part.block,
                rest=part.rest if policy != "onnxruntime" else "fp32",  # its kernels have no FP16
                keep_float=tuple(part.keep_float),
                i_know=i_know,
                overwrite=True,
            )
            if part.budget is None:
                result = quantize_model(
                    model,
                    place.required("calibration").samples,
                    place.path(role),
                    options,
                    statistics=None if part.equalize else statistics,
                    measure_layers=True,
                    rewritten=_room_for_rewritten(place, role),
                    progress=place.steps("quantize"),
                )
                if place.rewritten(role).is_file():
                    stage.outputs.append(place.rewritten(role).relative_to(place.folder).as_posix())
            else:
                result = _within_budget(place, stage, role, options, statistics)
            file = model_facts(role, place.path(role), place.folder)
            made.append({"report": dict(result.report), "file": file})
            stage.outputs.append(place.name(role))
        stage.result = {"made": made}

    made: list[JSON] = place.store.run("quantize", inputs, work)["made"]
    return made


def _room_for_rewritten(place: Workplace, role: str) -> Path | None:
    """Where the float model goes that Q/DQ are placed in, if it is another one than ``folded``."""
    part = place.recipe.quantization
    path = place.rewritten(role)
    path.unlink(missing_ok=True)  # of an earlier recipe
    if part is None or (part.split == "none" and not part.equalize):
        return None
    path.parent.mkdir(exist_ok=True)
    return path


def _within_budget(
    place: Workplace,
    stage: StageWork,
    role: str,
    options: QuantizeOptions,
    statistics: Statistics,
) -> QuantizeResult:
    """One INT8 file that keeps the recipe's budget, or the nearest to it that was found."""
    from deploy.budgeting import SearchOptions, quantize_to_budget

    part, path = place.recipe.quantization, place.path(role)
    assert part is not None  # asked by the caller
    assert part.budget is not None
    state = path.with_name(f".{role}.search.json")
    found = quantize_to_budget(
        place.file(FP32),
        place.required("calibration").samples,
        path,
        budget=part.budget,
        validation=place.required("validation").samples,
        options=options,
        search=SearchOptions(
            metric=part.metric or place.recipe.metric,
            threads=place.threads,
            write_anyway=True,  # the verdict says that it does not hold
            state=state,
        ),
        statistics=statistics,
        measure_layers=True,
        progress=place.steps(f"quantize {role}"),
    )
    if found.result is None:
        raise UserError(
            f"no INT8 file for {role} comes near {part.budget!r}", fix="Lower quantization.budget"
        )
    state.unlink()  # it served its turn: the stage has its own record
    stage.outputs.append(path.with_suffix(".budget.json").relative_to(place.folder).as_posix())
    return found.result


def cast(place: Workplace) -> JSON | None:
    """Write ``models/fp16.onnx`` if an engine or the benchmark asks for it."""
    from calibration import cast as cast_model

    if FP16 not in place.recipe.roles:
        return None
    model = place.file(FP32)

    def work(stage: StageWork) -> None:
        cast_model(model, place.path(FP16), to=FP16, overwrite=True)
        stage.result = {"file": model_facts(FP16, place.path(FP16), place.folder)}
        stage.outputs = [place.name(FP16)]

    return place.store.run("cast", {"model": model.sha256}, work)


def runnable_engines(place: Workplace, engines: list[JSON]) -> dict[str, Path]:
    """Engines that this machine can run, by name; most are built for another one."""
    from runtimes import get

    return {
        engine["name"]: place.folder / engine["path"]
        for part, engine in zip(place.recipe.engines, engines, strict=True)
        if engine["path"] is not None and get(part.runtime).probe().can_run
    }


def build(place: Workplace, engine: EnginePart) -> JSON:
    """Build an engine, or record why there is none here."""
    from runtimes import BuildOptions, get, preflight
    from runtimes.passport import passport_path, to_json

    runtime = get(engine.runtime)
    builder = runtime.probe()
    model = place.file(engine.source)
    name = engine.name
    inputs = {
        **engine.model_dump(exclude={"required"}),
        "model": model.sha256,
        "builder": plain(asdict(builder)),
    }

    def work(stage: StageWork) -> None:
        stage.result = {"name": name, "path": None, "passport": {}, "findings": [], "missing": ""}
        if engine.target is not None:
            stage.result["findings"] = preflight(model.path, engine.target)
        if not builder.can_build:
            stage.result["missing"] = f"{builder.reason}. {builder.fix}".removesuffix(". ")
            stage.notes.append(f"no engine: {builder.reason}")
            return
        output = place.folder / "engines" / f"{engine.source}.{engine.runtime}.engine"
        output.parent.mkdir(exist_ok=True)
        options = BuildOptions(target=engine.target, overwrite=True)
        built = runtime.build(model, output, options, place.steps(f"build {name}"))
        stage.result["path"] = output.relative_to(place.folder).as_posix()
        stage.result["passport"] = to_json(built.passport)
        for path in (output, passport_path(output)):
            stage.outputs.append(path.relative_to(place.folder).as_posix())

    return place.store.run(f"build {name}", inputs, work)
