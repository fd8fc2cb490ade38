"""``edgeport verify``: is the candidate still the same model?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from deploy.boards.connection import Access
from deploy.boards.inventory import one_board
from deploy.comparison import Comparison
from deploy.console import Output
from deploy.layers_alone import worst_first
from deploy.metrics.pooled import PairedMetric
from exporters.errors import UserError

if TYPE_CHECKING:
    from deploy.language.verifying import TextVerdict

_SHOWN_LAYERS = 12


def command(
    reference: Annotated[Path, typer.Argument(help="Model file or engine taken as right.")],
    candidate: Annotated[
        Path | None,
        typer.Argument(help="Model file or engine to judge; with --board the reference's own."),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Folder, .npz, nuScenes samples, or synthetic:COUNT[:SEED]."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Language models: UTF-8 text, also .gz, to be predicted.")
    ] = None,
    window: Annotated[
        int, typer.Option(help="With --text: tokens of a window, without overlap.")
    ] = 512,
    max_tokens: Annotated[int | None, typer.Option(help="With --text: of its beginning.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…|module:function",
            help="miou, rayiou, raypq or your own, with commas between; without it the task's own "
            "where samples have ground truth.",
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TERM",
            help="'agreement>=0.98', 'miou>=fp32-0.5', 'metric>=0.99*fp32'; may be repeated.",
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare at the quantization boundaries too.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of CPU sessions; all cores without it.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Run in so many processes, each with one thread."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers run.")
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(help="ssh://user@host[:port]: the candidate is built and run there."),
    ] = None,
    board_runtime: Annotated[
        str | None,
        typer.Option(help="tensorrt, trtexec or onnxruntime; else TensorRT where there is one."),
    ] = None,
    board_python: Annotated[
        str, typer.Option(help="Interpreter on the board, 3.8 or newer with numpy.")
    ] = "python3",
    board_cache: Annotated[
        str, typer.Option(help="Folder on the board, from its user's home.")
    ] = ".cache/edgeport",
    i_know: Annotated[
        list[str] | None,
        typer.Option(
            help="'overlap': judge by samples that a file was calibrated on; the result notes it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare two files on the same samples, sample by sample, and judge the second.

    For example:

        edgeport verify m0.onnx m0.int8.onnx --samples evaluation/ --require "agreement>=0.95"

        edgeport verify m0.onnx m0.int8.onnx --samples DIR --board ssh://nvidia@orin

    Exit code 0 when every term holds, 1 when one is missed, could not be measured, or cannot be
    decided by this many samples: the whole 95 % interval has to lie on the good side. Without
    terms only the number of values that turned NaN or infinite is judged.

    A metric of your own is a function in a module beside you: metric(outputs, sample), scored on
    both models, or metric(reference_outputs, candidate_outputs, sample). Ground truth is in sample
    under label.NAME; return a number of which higher is better, or a dict of them:

        edgeport verify m.onnx m.int8.onnx --samples DIR --metric mine:f1 --require "f1>=fp32-0.01"

    An INT8 file knows the samples that it was calibrated on, and is not judged by those: exit code
    2 unless --i-know overlap.

    Language models are compared on a text: perplexity, KL divergence, equal likeliest tokens:

        edgeport verify float.onnx m.onnx --text prose.txt --require "perplexity_ratio<=1.015"

    Known limits: --layers needs two ONNX files whose tensors have the same names, as edgeport
    quantize leaves them. An engine is run only where its device is.
    """
    from calibration.samples.mapping import backend_for
    from calibration.sensitivity.noise import Workers
    from deploy.contract.contracts import contract_of
    from deploy.verification import verify

    out = Output(json=as_json)
    if candidate is None and board is None:
        raise UserError(
            "there is nothing to judge", fix="Name a second file, or a board with --board"
        )
    if text is not None:
        _refuse_both(samples, metric)
        options = {"window": window, "max_tokens": max_tokens, "threads": threads}
        _verify_on_text(out, reference, candidate or reference, text, require, **options)
    if samples is None:
        raise UserError(
            "there are no samples to compare on", fix="Name them with --samples, or give --text"
        )
    access = Access(python=board_python, cache=board_cache)
    with out.progress("Verify") as progress:
        comparison = verify(
            reference,
            candidate or reference,
            samples,
            metric=metric,
            contract=contract_of(require),
            layers=layers,
            threads=threads,
            i_know=i_know or (),
            workers=Workers(backend_for(jobs, scheduler), jobs, scheduler),
            board=None if board is None else one_board(board, access),
            board_runtime=board_runtime,
            progress=progress,
        )
    _show(out, comparison)
    out.result(comparison.to_json())
    raise typer.Exit(comparison.verdict.exit_code)


def _verify_on_text(
    out: Output,
    reference: Path,
    candidate: Path,
    text: Path,
    require: list[str] | None,
    **options: Any,
) -> NoReturn:
    from deploy.language.verifying import verify_on_text

    with out.progress("Verify") as progress:
        judged = verify_on_text(
            reference, candidate, text, require=require or (), progress=progress, **options
        )
    _show_text(out, judged)
    out.result(judged.to_json())
    raise typer.Exit(judged.verdict.exit_code)


def _refuse_both(samples: str | None, metric: str | None) -> None:
    if samples is not None:
        raise UserError("give --samples or --text, not both", fix="Leave one of them out")
    if metric not in (None, "perplexity"):
        raise UserError(f"--text goes with --metric perplexity, not {metric}", fix="Leave it out")


def _show_text(out: Output, judged: TextVerdict) -> None:
    found = judged.comparison
    rows = [
        [name, found.value(name), *((None, None) if i is None else (i.low, i.high))]
        for name, i in found.measures.items()
    ]
    out.table(
        f"{judged.candidate} against {judged.reference}: {found.tokens} tokens of {judged.text}",
        ["measure", "value", "from", "to (95 %)"],
        [["reference perplexity", found.reference_perplexity, None, None], *rows],
    )
    for note in judged.notes:
        out.say(f"note: {note}")
    for check in judged.verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {judged.verdict.status}")


def _show(out: Output, comparison: Comparison) -> None:
    names = list(dict.fromkeys(key for m in comparison.outputs.values() for key in m))
    rows = [
        [sample.name, output, *(metrics.get(name) for name in names)]
        for sample in comparison.samples
        for output, metrics in sample.outputs.items()
    ]
    rows += [
        ["all", output, *(metrics.get(name) for name in names)]
        for output, metrics in comparison.outputs.items()
    ]
    title = f"{comparison.candidate} against {comparison.reference}"
    out.table(title, ["sample", "output", *names], rows)
    _show_paired(out, comparison)
    _show_classes(out, comparison)
    _show_layers(out, comparison)
    for note in comparison.notes:
        out.say(f"note: {note}")
    for check in comparison.verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {comparison.verdict.status}")


def _show_paired(out: Output, comparison: Comparison) -> None:
    if not comparison.paired:
        return
    columns = ["metric", "unit", "reference", "candidate", "95 % interval", "these samples show"]
    rows = [
        [
            f"{metric.output} {metric.name}".strip(),
            metric.unit,
            metric.reference,
            metric.candidate,
            _interval(metric),
            _detectable(metric),
        ]
        for metric in comparison.paired
    ]
    out.table("Over all samples, each compared with itself", columns, rows)


def _interval(metric: PairedMetric) -> str:
    interval = metric.interval
    if interval is None:
        return f"none: {metric.why_not}"
    what = "" if metric.reference is None else "difference "
    return f"{what}{interval.low:.4g} to {interval.high:.4g} ({interval.method})"


def _detectable(metric: PairedMetric) -> str:
    interval = metric.interval
    if interval is None:
        return ""
    if math.isnan(interval.detectable):
        return "all are alike"
    return f"a loss of {interval.detectable:.2g} or more"


def _show_classes(out: Output, comparison: Comparison) -> None:
    for output, parts in comparison.parts.items():
        rows = [
            [row["name"], row["reference_count"], row["candidate_count"], row["iou"]]
            for row in parts.get("class", ())
            if row.get("reference_count") or row.get("candidate_count")
        ]
        if rows:
            columns = ["class", "reference", "candidate", "IoU between them"]
            out.table(f"{output}: labels by class", columns, rows)


def _show_layers(out: Output, comparison: Comparison) -> None:
    if comparison.layers is None:
        return
    worst = comparison.layers.worst_first[:_SHOWN_LAYERS]
    out.table(
        f"Worst of {len(comparison.layers.layers)} quantization boundaries",
        ["tensor", "made by", "SQNR dB", "cosine", "max error"],
        [
            [
                layer.tensor,
                layer.op_type,
                layer.error.sqnr_db,
                layer.error.cosine,
                layer.error.max_abs,
            ]
            for layer in worst
        ],
    )
    alone = worst_first(comparison.layers.alone)
    out.table(
        "Layers that lose most by themselves, from the reference's inputs",
        ["layer", "operator", "SQNR dB", "outputs dB"],
        [
            [one.node, one.op_type, one.error.sqnr_db, one.outputs_db]
            for one in alone[:_SHOWN_LAYERS]
        ],
    )
    kernels = ", ".join(f"{n} {op}" for op, n in comparison.layers.integer_kernels.items())
    out.say(f"integer kernels in ONNX Runtime: {kernels or 'none'}")
