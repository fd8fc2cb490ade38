"""``edgeport quantize``: model file and samples to INT8 model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.console import Output, ProgressCallback
from deploy.quantization_text import tell
from exporters.errors import UserError
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    from calibration import QuantizeOptions, Statistics
    from calibration.samples import Samples


_METHODS = "How ranges and weights are chosen"
_NODES = "What stays in float"
_SAMPLES = "Samples"
_RESULT = "Result"


def command(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx), in FP32.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="INT8 model file to write.")],
    samples: Annotated[
        str, typer.Option("--samples", help="Folder, .npz, or synthetic:COUNT[:SEED].")
    ],
    policy: Annotated[
        str,
        typer.Option(help="Where Q/DQ go: tensorrt or onnxruntime.", rich_help_panel=_METHODS),
    ] = "tensorrt",
    scales: Annotated[
        str,
        typer.Option(
            help="How ranges are chosen: minmax, percentile, mse, entropy, kl-r, auto.",
            rich_help_panel=_METHODS,
        ),
    ] = "auto",
    split: Annotated[
        str,
        typer.Option(
            help="Convolutions split in two: none, cfws (all that can be), auto.",
            rich_help_panel=_METHODS,
        ),
    ] = "none",
    rounding: Annotated[
        str, typer.Option(help="Of weights: nearest.", rich_help_panel=_METHODS)
    ] = "nearest",
    weights: Annotated[
        str, typer.Option(help="Type of weights: int8.", rich_help_panel=_METHODS)
    ] = "int8",
    rest: Annotated[
        str,
        typer.Option(
            help="Type of all that is not quantized: fp32 or fp16.", rich_help_panel=_NODES
        ),
    ] = "fp32",
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            help="Node, or prefix of nodes, that stays in float; may be repeated.",
            rich_help_panel=_NODES,
        ),
    ] = None,
    quantize_also: Annotated[
        list[str] | None,
        typer.Option(
            help="Node, or prefix of nodes, that the model file declares as float and that is to "
            "be quantized all the same; may be repeated.",
            rich_help_panel=_NODES,
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="File for what the pass over the samples saw: read where it exists, else written. "
            "It serves every policy and method.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    min_samples: Annotated[
        int, typer.Option(min=1, help="Fewer samples are refused.", rich_help_panel=_SAMPLES)
    ] = 2,
    evaluation: Annotated[
        str | None,
        typer.Option(
            help="What the result will be judged by: compared with the samples.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    i_know: Annotated[
        list[str] | None,
        typer.Option(
            help="Go on in spite of this finding about the samples, or of all; may be repeated, "
            "and the model file records it.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a report, .html or .json: ranges, splits, and the error of every layer, "
            "which takes a few samples more.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what exists.", rich_help_panel=_RESULT),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the report as JSON.", rich_help_panel=_RESULT),
    ] = False,
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

    --report q.html writes one page: the range of every activation and weight, what was split, what
    stayed float and why, and each layer's error beside that of a naive quantization.

    Known limits: weighted nodes inside If, Loop or a function stay in float; ONNX Runtime's int8
    kernels saturate on x86 CPUs without VNNI. Ranges are only as good as the samples: verify the
    result with edgeport verify.
    """
    from calibration import QuantizeOptions, open_samples, quantize
    from deploy.report.quantization import check_report_path, write_quantization_report

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
    if report is not None:
        check_report_path(report, overwrite=overwrite)
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
            measure_layers=report is not None,
            progress=progress,
        )
    made = {"path": str(result.model.path), "sha256": result.model.sha256, **result.report}
    tell(out, str(result.model.path), made)
    if report is not None:
        write_quantization_report(made, report, overwrite=overwrite)
        out.say(f"report: {report}")
    out.result(made)


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
