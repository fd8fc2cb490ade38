"""``edgeport quantize``: model file and samples to INT8 model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from deploy.quantizing import Quantizing

_METHODS = "How ranges and weights are chosen"
_NODES = "What stays in float"
_SAMPLES = "Samples"
_BUDGET = "What it may lose"
_RESULT = "Result"

ModelArgument = Annotated[Path, typer.Argument(help="Model file (.onnx), in FP32.")]
OutputFile = Annotated[Path, typer.Option("-o", "--output", help="INT8 model file to write.")]
SamplesFrom = Annotated[
    str, typer.Option("--samples", help="Folder, .npz, or synthetic:COUNT[:SEED].")
]
Policy = Annotated[
    str,
    typer.Option(help="Where Q/DQ go: tensorrt or onnxruntime.", rich_help_panel=_METHODS),
]
Scales = Annotated[
    str,
    typer.Option(
        help="How ranges are chosen: minmax, percentile, mse, entropy, kl-r, auto.",
        rich_help_panel=_METHODS,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Convolutions split in two: none, cfws (all that can be), auto.",
        rich_help_panel=_METHODS,
    ),
]
Equalize = Annotated[
    bool,
    typer.Option(
        "--equalize/--no-equalize",
        help="Bring the channels of each tensor to like ranges first (cross-layer).",
        rich_help_panel=_METHODS,
    ),
]
Rounding = Annotated[
    str,
    typer.Option(
        help="Of weights: gptq (one makes good what another did wrong), nearest, or adaround "
        "(learned layer by layer; needs torch); auto is gptq from eight samples on.",
        rich_help_panel=_METHODS,
    ),
]
CorrectBias = Annotated[
    bool | None,
    typer.Option(
        "--correct-bias/--no-correct-bias",
        help="Shift biases for what rounding does to the mean of a layer's output; by default "
        "where running a few samples is affordable, and never within a budget.",
        rich_help_panel=_METHODS,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="Type of weights: int8, or int4 (activations stay float).",
        rich_help_panel=_METHODS,
    ),
]
Block = Annotated[
    int,
    typer.Option(
        help="Inputs of an int4 weight that share a scale: 16 to 256; 0 for one a channel.",
        rich_help_panel=_METHODS,
    ),
]
Rest = Annotated[
    str,
    typer.Option(help="Type of all that is not quantized: fp32 or fp16.", rich_help_panel=_NODES),
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        help="Node, or prefix of nodes, that stays in float; may be repeated.",
        rich_help_panel=_NODES,
    ),
]
QuantizeAlso = Annotated[
    list[str] | None,
    typer.Option(
        help="Node, or prefix of nodes, that the model file declares as float and that is to "
        "be quantized all the same; may be repeated.",
        rich_help_panel=_NODES,
    ),
]
StatisticsFile = Annotated[
    Path | None,
    typer.Option(
        help="File for what the pass over the samples saw: read where it exists, else written. "
        "It serves every policy and method.",
        rich_help_panel=_SAMPLES,
    ),
]
MinSamples = Annotated[
    int, typer.Option(min=1, help="Fewer samples are refused.", rich_help_panel=_SAMPLES)
]
EvaluationFrom = Annotated[
    str | None,
    typer.Option(
        help="What the result will be judged by: compared with the samples.",
        rich_help_panel=_SAMPLES,
    ),
]
IKnow = Annotated[
    list[str] | None,
    typer.Option(
        help="Go on in spite of this finding about the samples, or of all; may be repeated, "
        "and the model file records it.",
        rich_help_panel=_SAMPLES,
    ),
]
BudgetTerms = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR",
        help="Give nodes back to float until this holds on --validate: 'metric>=0.99', "
        "'miou>=fp32-0.5 and speedup>=1.2'.",
        rich_help_panel=_BUDGET,
    ),
]
ValidationFrom = Annotated[
    str | None,
    typer.Option(
        help="Samples that decide; neither the calibration set nor the one for the verdict.",
        rich_help_panel=_BUDGET,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|module:function",
        help="What 'metric' means; without it the task's own. See edgeport verify.",
        rich_help_panel=_BUDGET,
    ),
]
Cost = Annotated[
    str,
    typer.Option(
        help="What float costs: latency on this CPU, work (multiply-adds), or auto.",
        rich_help_panel=_BUDGET,
    ),
]
Sure = Annotated[
    bool,
    typer.Option(
        "--sure",
        help="The worse end of the metric's 95 % interval has to hold, not its value.",
        rich_help_panel=_BUDGET,
    ),
]
Effort = Annotated[
    int, typer.Option(min=2, help="Models that are tried at most.", rich_help_panel=_BUDGET)
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of CPU sessions.", rich_help_panel=_BUDGET)
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Processes here that share the search.", rich_help_panel=_BUDGET),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT",
        help="A Dask cluster that shares the search.",
        rich_help_panel=_BUDGET,
    ),
]
StateFile = Annotated[
    Path | None,
    typer.Option(
        help="File for the search's measurements; beside the output without it.",
        rich_help_panel=_BUDGET,
    ),
]
WriteAnyway = Annotated[
    bool,
    typer.Option(
        "--write-anyway",
        help="Write the best file found where none holds; the exit code stays 1.",
        rich_help_panel=_BUDGET,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        help="Write a report, .html or .json: ranges, splits, and the error of every layer, "
        "which takes a few samples more.",
        rich_help_panel=_RESULT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what exists.", rich_help_panel=_RESULT),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the report as JSON.", rich_help_panel=_RESULT),
]


def command(
    model: ModelArgument,
    output: OutputFile,
    samples: SamplesFrom,
    policy: Policy = "tensorrt",
    scales: Scales = "auto",
    split: Split = "none",
    equalize: Equalize = False,
    rounding: Rounding = "auto",
    correct_bias: CorrectBias = None,
    weights: Weights = "int8",
    block: Block = 0,
    rest: Rest = "fp32",
    keep_float: KeepFloat = None,
    quantize_also: QuantizeAlso = None,
    statistics: StatisticsFile = None,
    min_samples: MinSamples = 2,
    evaluation: EvaluationFrom = None,
    i_know: IKnow = None,
    budget: BudgetTerms = None,
    validate: ValidationFrom = None,
    metric: Metric = None,
    cost: Cost = "auto",
    sure: Sure = False,
    effort: Effort = 40,
    threads: Threads = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    state: StateFile = None,
    write_anyway: WriteAnyway = False,
    report: ReportFile = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a model file to INT8, with ranges from a calibration set.

    Memory does not grow with the number of samples. Weights become int8 with one scale an output
    channel, activations int8 (tensorrt) or uint8 (onnxruntime), as Q/DQ pairs that the runtime
    fuses. What stays in float is listed with the reason.

    --scales auto takes the ranges that keep the outputs nearest to the float ones; --split auto
    writes a convolution as a coarse 1x1 and a fine one (CFWS) where that gains 3 dB at its output,
    as in networks with re-parameterised branches. Examples:

        edgeport quantize m0.onnx --samples calibration-set -o m0.int8.onnx

        edgeport quantize m0.onnx --samples synthetic:16 --policy onnxruntime -o m0.ort.onnx

        edgeport quantize m0.onnx --samples DIR --rest fp16 --keep-float occ_head -o m0.int8.onnx

        edgeport quantize m0.onnx --samples DIR --weights int4 --block 32 -o m0.int4.onnx

    The samples are looked at before anything is run: too few, duplicates, noise, another range,
    layout or colour order than the model's. Errors refuse the set unless --i-know names them.

    --report q.html writes one page: the range of every activation and weight, what was split, what
    stayed float and why, and each layer's error beside that of a naive quantization.

    --budget searches for the fastest mixture of INT8 and float that holds on --validate, and
    writes what it found, the curve of accuracy against speed, to OUTPUT.budget.json. Exit code 1,
    and no model, if nothing holds. After Ctrl-C the same command goes on where it stopped:

        edgeport quantize m.onnx --samples calibration/ --validate validation/ \
          --policy onnxruntime --budget "metric>=0.97" --metric mine:iou -o m.int8.onnx

    Known limits: weighted nodes inside If, Loop or Scan stay in float; int4 quantizes weights only;
    ONNX Runtime's int8 kernels saturate on x86 CPUs without VNNI.
    """
    from calibration import QuantizeOptions

    options = QuantizeOptions(
        policy=policy,
        scales=scales,
        split=split,
        equalize=equalize,
        rounding=rounding,
        correct_bias=correct_bias,
        weights=weights,
        block=block,
        rest=rest,
        keep_float=tuple(keep_float or ()),
        quantize_also=tuple(quantize_also or ()),
        min_samples=min_samples,
        i_know=tuple(i_know or ()),
        overwrite=overwrite,
    )
    run = Quantizing(Output(json=as_json), model, samples, output, options, statistics, report)
    if budget is None and validate is None:
        run.plainly(evaluation)
        return
    from deploy.budgeting import SearchOptions  # a tenth of a second that nobody else waits for

    search = SearchOptions(
        metric=metric,
        cost=cost,  # type: ignore[arg-type]  # checked there
        threads=threads,
        jobs=jobs,
        scheduler=scheduler,
        sure=sure,
        effort=effort,
        write_anyway=write_anyway,
        state=state,
    )
    run.within(budget, validate, evaluation, search)
