"""``edgeport run``: a whole recipe into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.bundle import Bundle, partial_path
from deploy.console import Output
from deploy.verdict import Check, Verdict
from exporters.errors import EXIT_OK, EXIT_VERDICT_FAIL


def command(
    recipe: Annotated[Path, typer.Argument(help="YAML file; docs/recipes.md has every key.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Bundle to make, a folder.")],
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a bundle; unchanged stages are reused."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Reuse nothing from earlier runs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Export, quantize, build, time and verify as a recipe says, and report.

    For example:

        edgeport run examples/demo.yaml -o demo-bundle

    Exit code 0 when the bundle keeps its contract, 1 when a term is missed or without evidence.
    Interrupted, it leaves BUNDLE.partial with the stages that are done; the same command goes on
    from there. A stage is run again when its inputs, its part of the recipe or edgeport changed.

    Known limits: one model a recipe. Engines are built, and timed only where their device is.
    """
    from deploy.pipeline import run
    from deploy.recipe import load_recipe

    out = Output(json=as_json)
    parsed = load_recipe(recipe)
    try:
        with out.progress("Run") as progress:
            bundle = run(parsed, output, overwrite=overwrite, fresh=fresh, progress=progress)
    except BaseException:
        done = len(list((partial_path(output) / "stages").glob("*.json")))
        if done:
            out.note(f"{done} finished stages are kept in {partial_path(output)}; run it again")
        raise
    report = bundle.report
    _show(out, bundle, report)
    out.result(report)
    raise typer.Exit(EXIT_OK if report["verdict"]["status"] == "pass" else EXIT_VERDICT_FAIL)


def _show(out: Output, bundle: Bundle, report: dict[str, Any]) -> None:
    out.table(
        f"{report['title']} ({report['model']['weights']})",
        ["stage", "seconds", "peak MiB", ""],
        [
            [s["name"], s["seconds"], s["peak_rss_mib"], "reused" if s["cached"] else ""]
            for s in report["stages"]
        ],
    )
    if report["latency"] is not None:
        _show_latency(out, report["latency"])
    out.table(
        "Against FP32",
        ["file", "label agreement", "of them not free", "worst boundary, SQNR dB"],
        [
            [
                entry["candidate"],
                entry["summary"].get("agreement"),
                entry["summary"].get("agreement_occupied"),
                min(
                    (layer["sqnr_db"] or float("inf") for layer in entry["layers"] or ()),
                    default=None,
                ),
            ]
            for entry in report["agreement"]
        ],
    )
    for engine in report["engines"]:
        built = engine["passport"].get("size_bytes")
        last = engine["findings"][-1]["message"] if engine["findings"] else ""
        out.say(f"engine {engine['name']}: {f'{built / 1e6:.1f} MB' if built else last}")
    for note in report["notes"]:
        out.say(f"note: {note}")
    verdict = Verdict(tuple(Check(**check) for check in report["verdict"]["checks"]))
    for check in verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {verdict.status}")
    out.say(f"report: {bundle.page.resolve()}")


def _show_latency(out: Output, latency: dict[str, Any]) -> None:
    rows = []
    for case in latency["cases"]:
        by_percent = {p["p"]: p["value_ms"] for p in case["percentiles"]}
        ratio = case["ratio_to_reference"]
        times = (
            f"{ratio['value']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
        )
        rows.append([case["name"], by_percent.get(50), by_percent.get(90), times])
    out.table(
        f"Latency, {latency['runs']} interleaved runs, {latency['threads']} threads",
        ["file", "p50 ms", "p90 ms", "times as fast"],
        rows,
    )
