"""``edgeport verify``: is the candidate still the same model?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from deploy.boards.connection import Access
from deploy.boards.inventory import one_board
from deploy.comparison_text import tell_comparison, tell_texts
from deploy.console import Output
from exporters.errors import UserError

ReferenceFile = Annotated[Path, typer.Argument(help="Model file or engine taken as right.")]
CandidateFile = Annotated[
    Path | None,
    typer.Argument(help="Model file or engine to judge; with --board the reference's own."),
]
SamplesFrom = Annotated[
    str | None,
    typer.Option(help="Folder, .npz, nuScenes samples, or synthetic:COUNT[:SEED]."),
]
TextFile = Annotated[
    Path | None, typer.Option(help="Language models: UTF-8 text, also .gz, to be predicted.")
]
Window = Annotated[int, typer.Option(help="With --text: tokens of a window, without overlap.")]
MaxTokens = Annotated[int | None, typer.Option(help="With --text: of its beginning.")]
MetricNames = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…|module:function",
        help="miou, rayiou, raypq or your own, with commas between; without it the task's own "
        "where samples have ground truth.",
    ),
]
Terms = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERM",
        help="'agreement>=0.98', 'miou>=fp32-0.5', 'metric>=0.99*fp32'; may be repeated.",
    ),
]
Layers = Annotated[
    bool, typer.Option("--layers", help="Compare at the quantization boundaries too.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Of CPU sessions; all cores without it.")]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Run in so many processes, each with one thread."),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler whose workers run.")
]
BoardName = Annotated[
    str | None,
    typer.Option(help="ssh://user@host[:port]: the candidate is built and run there."),
]
BoardRuntime = Annotated[
    str | None,
    typer.Option(help="tensorrt, trtexec or onnxruntime; else TensorRT where there is one."),
]
BoardPython = Annotated[
    str, typer.Option(help="Interpreter on the board, 3.8 or newer with numpy.")
]
BoardCache = Annotated[str, typer.Option(help="Folder on the board, from its user's home.")]
IKnow = Annotated[
    list[str] | None,
    typer.Option(
        help="'overlap': judge by samples that a file was calibrated on; the result notes it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def command(
    reference: ReferenceFile,
    candidate: CandidateFile = None,
    samples: SamplesFrom = None,
    text: TextFile = None,
    window: Window = 512,
    max_tokens: MaxTokens = None,
    metric: MetricNames = None,
    require: Terms = None,
    layers: Layers = False,
    threads: Threads = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    board: BoardName = None,
    board_runtime: BoardRuntime = None,
    board_python: BoardPython = "python3",
    board_cache: BoardCache = ".cache/edgeport",
    i_know: IKnow = None,
    as_json: AsJson = False,
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
    tell_comparison(out, comparison)
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
    tell_texts(out, judged)
    out.result(judged.to_json())
    raise typer.Exit(judged.verdict.exit_code)


def _refuse_both(samples: str | None, metric: str | None) -> None:
    if samples is not None:
        raise UserError("give --samples or --text, not both", fix="Leave one of them out")
    if metric not in (None, "perplexity"):
        raise UserError(f"--text goes with --metric perplexity, not {metric}", fix="Leave it out")
