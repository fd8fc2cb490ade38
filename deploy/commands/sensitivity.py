"""``edgeport sensitivity``: which layers INT8 hurts, and what each would cost in float."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.console import Output
from exporters.errors import UserError
from exporters.modelfile import ModelFile

_SHOWN = 20


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx), in FP32.")],
    samples: Annotated[
        str, typer.Option("--samples", help="Folder, .npz, or synthetic:COUNT[:SEED].")
    ],
    policy: Annotated[
        str, typer.Option(help="Where Q/DQ go: tensorrt or onnxruntime.")
    ] = "tensorrt",
    scales: Annotated[str, typer.Option(help="How ranges are chosen, as in quantize.")] = "mse",
    split: Annotated[str, typer.Option(help="Split convolutions, as in quantize.")] = "none",
    keep_float: Annotated[
        list[str] | None,
        typer.Option(help="Node, or prefix of nodes, that stays in float; may be repeated."),
    ] = None,
    validate: Annotated[
        str | None, typer.Option(help="Samples for a metric of the worst units.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME|module:function", help="As in verify; needs --validate."),
    ] = None,
    judged: Annotated[int, typer.Option(min=1, help="How many units the metric is taken of.")] = 8,
    cost: Annotated[
        str, typer.Option(help="latency on this CPU, work (multiply-adds), or auto.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of CPU sessions.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine that share the work.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="A Dask cluster that shares the work."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="File for what was measured: an interrupted run goes on from it."),
    ] = None,
    i_know: Annotated[
        list[str] | None, typer.Option(help="Pass over this finding about the samples, or all.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every unit, not the worst.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Show what INT8 in each unit alone does to the outputs, most damage for its time first.

    A unit is what the runtime computes in one kernel: a convolution with its ReLU, and for
    TensorRT its residual Add. Every rounding is measured by itself, all else in float: the
    weights of each node, and every range. SQNR is of the model's outputs; 20 dB is one percent
    of their power, 40 dB a hundredth of that. The gain is what everything in INT8 gains by this
    unit in float, and the price is what that takes. Nothing is written. Examples:

        edgeport sensitivity m.onnx --samples calibration/ --policy onnxruntime

        edgeport sensitivity m.onnx --samples calibration/ --validate DIR --metric mine:iou

    With --validate the worst units have the metric too: with only them in INT8, and with only
    them in float.

    A low number under weights asks for --split auto, one under activations for --scales auto; what
    neither helps, quantize --budget gives back.

    Known limits: with --policy tensorrt nothing is timed, multiply-adds stand in for milliseconds.
    """
    from calibration import QuantizeOptions, open_samples
    from deploy.budgeting import SearchOptions, sensitivity

    out = Output(json=as_json)
    options = QuantizeOptions(
        policy=policy,
        scales=scales,
        split=split,
        keep_float=tuple(keep_float or ()),
        i_know=tuple(i_know or ()),
    )
    search = SearchOptions(
        metric=metric,
        cost=cost,  # type: ignore[arg-type]  # checked there
        threads=threads,
        jobs=jobs,
        scheduler=scheduler,
        state=state,
    )
    if metric is not None and validate is None:
        raise UserError("--metric needs samples to be taken on", fix="Give --validate DIR")
    file = ModelFile(model)
    with out.progress("Sensitivity") as progress:
        found = sensitivity(
            file,
            open_samples(samples, file.spec),
            options=options,
            search=search,
            validation=None if validate is None else open_samples(validate, file.spec),
            judged_units=judged,
            progress=progress,
        )
    _show(out, found, None if every else _SHOWN)
    out.result(found)


def _show(out: Output, found: dict[str, Any], shown: int | None) -> None:
    unit = found["cost_unit"]
    judged = () if found["metric"] is None else ("metric_alone", "metric_without")
    rows = [
        [
            row["unit"],
            row["op_type"],
            row["sqnr_db"],
            row["weights_db"],
            row["activations_db"],
            row["gain_db"],
            row["cost"],
            *(row.get(key) for key in judged),
        ]
        for row in found["units"][:shown]
    ]
    columns = ["unit", "op", "SQNR dB", "of weights", "of activations", "gain dB", f"price, {unit}"]
    columns += ["metric alone", "metric without"][: len(judged)]
    out.table("INT8 in one unit at a time, most damage for its price first", columns, rows)
    if shown is not None and len(found["units"]) > shown:
        out.say(f"{len(found['units']) - shown} more with --all")
    if found["metric"] is not None:
        out.say(f"metric with everything in INT8: {found['metric']:.4g}")
    sqnr_db, int8, fp32 = (found[f"predicted_{key}"] for key in ("sqnr_db", "cost", "float_cost"))
    out.say(
        f"predicted from the parts: {sqnr_db:.1f} dB at {int8:.4g} {unit} with everything in INT8, "
        f"{fp32:.4g} {unit} in float"
    )
