"""The whole job from a recipe: export, quantize, cast, build, time, verify, report.

    from deploy import load_recipe, run
    bundle = run(load_recipe(Path("recipe.yaml")), Path("bundle"))
    bundle.report["verdict"]["status"]

Each step is a stage of ``deploy.stages``: it depends on the SHA-256 of its inputs, and its result
is JSON. The report is put together from these results alone (``deploy.summary``).
"""

from __future__ import annotations

from pathlib import Path

from deploy import making, measuring
from deploy.bundle import Bundle, under_construction, write_manifest
from deploy.console import dump_json
from deploy.contract.writing import write_verdict
from deploy.language import bundling
from deploy.provenance import bill
from deploy.recipe import Recipe
from deploy.recipe_parts import FP32
from deploy.stages import StageStore
from deploy.summary import Results, manifest_of, report_of
from deploy.workplace import Workplace
from exporters.files import write_text
from runtimes.base import Progress


def run(
    recipe: Recipe,
    output: Path | str,
    *,
    overwrite: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Carry out ``recipe`` into the bundle ``output``.

    Interrupted or failed, it leaves ``OUTPUT.partial`` with the finished stages; the same call
    goes on from there.

    Args:
        recipe: from ``load_recipe``, or made in Python.
        output: the bundle's folder.
        overwrite: replace a bundle that exists, reusing stages whose inputs have not changed.
        fresh: reuse nothing.
        progress: called with ``stage: step`` as phase.

    Raises:
        EdgeportError: of the stage that failed, with the stage's name before it.
    """
    with under_construction(Path(output), overwrite=overwrite, fresh=fresh) as folder:
        place = Workplace(recipe, folder, StageStore(folder), progress)
        results = _stages(place)
        place.store.forget_others()
        _write(place, results)
    return Bundle(Path(output))


def _stages(place: Workplace) -> Results:
    """Every stage in order."""
    recipe = place.recipe
    export, quantize, cast = making.export(place), making.quantize(place), making.cast(place)
    engines = [making.build(place, engine) for engine in recipe.engines]
    runnable = making.runnable_engines(place, engines)
    candidates = {role: place.path(role) for role in recipe.roles if role != FP32} | runnable
    judged = candidates if recipe.verify is not None else {}
    integers = bundling.export_integers(place)
    results = Results(
        export=export,
        integers=integers,
        quantize=quantize,
        cast=cast,
        engines=engines,
        benchmark=measuring.benchmark(place, runnable),
        verify=[measuring.verify(place, name, path) for name, path in judged.items()],
        boards=[measuring.verify_on_board(place, part) for part in recipe.boards],
        scenes=measuring.scenes(place),
        waterfall=measuring.waterfall(place),
        texts=bundling.compare_texts(place),
        completions=bundling.completions(place),
    )
    measuring.digests(place)
    return results


def _write(place: Workplace, results: Results) -> None:
    """Recipe, report, page and manifest."""
    from deploy.report import write_report

    report = report_of(place, results)
    recipe = place.recipe.model_dump(by_alias=True)
    for name, content in (("recipe.json", recipe), ("report.json", report)):
        write_text(place.folder / name, dump_json(content) + "\n", overwrite=True)
    write_report(place.folder, overwrite=True)
    write_verdict(place.folder, report)
    manifest = manifest_of(place, report)
    if bill.is_available():
        bill.write_bill(place.folder, manifest, report)
    write_manifest(place.folder, manifest)
