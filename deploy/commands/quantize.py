"""``edgeport quantize``: model file and samples to INT8 model file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.console import Output, ProgressCallback
from exporters.errors import UserError
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    from calibration import QuantizeOptions, Statistics
    from calibration.samples import Samples


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx), in FP32.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="INT8 model file to write.")],
    samples: Annotated[
        str, typer.Option("--samples", help="Folder, .npz, or synthetic:COUNT[:SEED].")
    ],
    policy: Annotated[
        str, typer.Option(help="Where Q/DQ go: tensorrt or onnxruntime.")
    ] = "tensorrt",
    scales: Annotated[
        str,
        typer.Option(help="How ranges are chosen: minmax, percentile, mse, entropy, kl-r, auto."),
    ] = "mse",
    split: Annotated[
        str, typer.Option(help="Convolutions split in two: none, cfws (all that can be), auto.")
    ] = "none",
    rounding: Annotated[str, typer.Option(help="Of weights: nearest.")] = "nearest",
    weights: Annotated[str, typer.Option(help="Type of weights: int8.")] = "int8",
    rest: Annotated[
        str, typer.Option(help="Type of all that is not quantized: fp32 or fp16.")
    ] = "fp32",
    keep_float: Annotated[
        list[str] | None,
        typer.Option(help="Node, or prefix of nodes, that stays in float; may be repeated."),
    ] = None,
    quantize_also: Annotated[
        list[str] | None,
        typer.Option(
            help="Node, or prefix of nodes, that the model file declares as float and that is to "
            "be quantized all the same; may be repeated."
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="File for what the pass over the samples saw: read where it exists, else written. "
            "It serves every policy and method."
        ),
    ] = None,
    min_samples: Annotated[int, typer.Option(min=1, help="Fewer samples are refused.")] = 2,
    evaluation: Annotated[
        str | None,
        typer.Option(help="What the result will be judged by: compared with the samples."),
    ] = None,
    i_know: Annotated[
        list[str] | None,
        typer.Option(
            help="Go on in spite of this finding about the samples, or of all; may be repeated, "
            "and the model file records it."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Quantize a model file to INT8, with ranges from a calibration set.

    One pass over the samples; memory does not grow with their number. Weights become int8 with
    one scale an output channel, activations int8 (tensorrt) or uint8 (onnxruntime), as Q/DQ pairs
    that the runtime fuses. What stays in float is listed with the reason.

    --scales auto takes, for every tensor, the range whose rounding the layers that read it feel
    least; --split auto writes a convolution as a coarse 1x1 and a fine one (CFWS) where that gains
    3 dB at its output, as in networks with re-parameterised branches. Both are measured on a few
    of the samples. Examples:

        edgeport quantize m0.onnx --samples calibration-set -o m0.int8.onnx

        edgeport quantize m0.onnx --samples synthetic:16 --policy onnxruntime -o m0.ort.onnx

        edgeport quantize m0.onnx --samples DIR --rest fp16 --keep-float occ_head -o m0.int8.onnx

    The samples are looked at before anything is run: too few, duplicates, noise, another range,
    layout or colour order than the model's. Errors refuse the set unless --i-know names them.

    Known limits: weighted nodes inside If, Loop or a function stay in float; ONNX Runtime's int8
    kernels saturate on x86 CPUs without VNNI. Ranges are only as good as the samples: verify the
    result with edgeport verify.
    """
    from calibration import QuantizeOptions, open_samples, quantize

    out = Output(json=as_json)
    options = QuantizeOptions(
        policy=policy,
        scales=scales,
        split=split,
        rounding=rounding,
        weights=weights,
        rest=rest,
        keep_float=tuple(keep_float or ()),
        quantize_also=tuple(quantize_also or ()),
        min_samples=min_samples,
        i_know=tuple(i_know or ()),
        overwrite=overwrite,
    )
    file = ModelFile(model)
    source = open_samples(samples, file.spec)
    with out.progress("Quantize") as progress:
        seen = None if statistics is None else _seen(file, source, statistics, options, progress)
        result = quantize(
            file,
            source,
            output,
            options,
            statistics=seen,
            evaluation=None if evaluation is None else open_samples(evaluation, file.spec),
            progress=progress,
        )
    _say(out, result.model, dict(result.report))
    out.result(
        {
            "path": str(result.model.path),
            "sha256": result.model.sha256,
            "size_bytes": result.model.size_bytes,
            **result.report,
        }
    )


def _seen(
    file: ModelFile,
    samples: Samples,
    path: Path,
    options: QuantizeOptions,
    progress: ProgressCallback,
) -> Statistics:
    """Statistics from ``path`` if they are of these very samples, else from a pass, then kept."""
    from calibration import Statistics, observe

    if not path.exists():
        seen = observe(
            file,
            samples,
            min_samples=options.min_samples,
            i_know=options.i_know,
            progress=progress,
        )
        seen.save(path)
        return seen
    seen = Statistics.load(path)
    if seen.samples_sha256 != samples.sha256:
        raise UserError(
            f"{path} holds statistics of other samples than these",
            fix="Give the samples it was made with, or another --statistics file",
        )
    return seen


def _say(out: Output, model: ModelFile, report: dict[str, Any]) -> None:
    counts, total = report["quantized"], report["total"]
    done = ", ".join(f"{counts.get(op, 0)} of {total[op]} {op}" for op in total)
    work = report["multiply_adds"]
    share = f" ({work['quantized'] / work['total']:.1%} of the work)" if work["total"] else ""
    out.say(f"{model.path} ({model.size_bytes / 1e6:.1f} MB): {done} in INT8{share}")
    out.say(
        f"policy {report['policy']}, scales {report['scales']} from {report['samples']['count']} "
        f"samples, {report['activations']['tensors']} activations with "
        f"{report['activations']['scales']} scales; rest {report['rest']}"
    )
    reasons: dict[str, Counter[str]] = {}
    for item in report["skipped"]:
        reasons.setdefault(item["reason"], Counter())[item["op_type"]] += 1
    rows = [(", ".join(f"{n} {op}" for op, n in c.items()), why) for why, c in reasons.items()]
    out.table("In float", ["nodes", "reason"], rows)
    halves = [
        (s["node"], *(f"{s[k]:.1f}" if k in s else "" for k in ("plain_sqnr_db", "split_sqnr_db")))
        for s in report["split_nodes"]
    ]
    if halves:
        out.table("Split in two", ["node", "SQNR whole, dB", "SQNR split, dB"], halves)
    if report["scale_methods"]:
        chosen = ", ".join(f"{n} by {name}" for name, n in report["scale_methods"].items())
        out.say(f"ranges of tensors with a choice: {chosen}")
    for item in report["respelled"]:
        out.say(f"{item['node']}: {item['reason']}")
    for item in report.get("cast", {}).get("kept_float", []):
        out.say(f"FP32: {item['node']} ({item['op_type']}): {item['reason']}")
    overridden = report["calibration_set"]["overridden"]
    for finding in report["calibration_set"]["findings"]:
        known = " (overridden)" if finding["code"] in overridden else ""
        out.say(f"samples: {finding['code']}{known}: {finding['message']}. {finding['fix']}")
    seconds = report["seconds"]
    out.say(
        f"took {seconds['total']:.1f} s ({seconds['observe']:.1f} s to observe), peak memory "
        f"{report['peak_rss_mib']:.0f} MiB; next: edgeport verify MODEL {model.path} --samples …"
    )
