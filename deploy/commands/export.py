"""``edgeport export``: checkpoint to model file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.console import Output
from exporters.variants import ExportResult, export

Variant = Annotated[str, typer.Argument(help="A name that `edgeport models` lists.")]
OutputFile = Annotated[Path, typer.Option("-o", "--output", help="Model file to write.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help=".pth, .pt or .safetensors; language models: DIR or .gguf. Without it --weights."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="trained|random",
        help="Without a checkpoint: what comes with edgeport for the miniatures, or seeded random.",
    ),
]
RigChoice = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|input",
        help="rig.json to bake in, or 'input' to take rig tables with every frame; "
        "without it a synthetic rig.",
    ),
]
ReferenceRig = Annotated[
    Path | None, typer.Option(help="With --rig input: names the cameras and sizes the tables.")
]
ImageInput = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="uint8|camera|float",
        help="uint8 images of the network's size; the camera's own, resized in the graph; "
        "or float planes that you normalise.",
    ),
]
Logits = Annotated[bool, typer.Option("--logits", help="Return raw logits in place of labels.")]
Seed = Annotated[
    int | None, typer.Option(help="Of random weights and generated inputs; 0 if not given.")
]
ImageSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="What the network sees, for example 256x704.")
]
Cameras = Annotated[
    int | None, typer.Option(min=1, help="Cameras of the synthetic rig, where none is given.")
]
Depth = Annotated[str | None, typer.Option(metavar="LOW:HIGH:STEP", help="Depth bins, metres.")]
Ranges = Annotated[
    str | None,
    typer.Option(metavar="X,Y,Z", help="Three ranges LOW:HIGH:STEP, metres; write --grid=…"),
]
Classes = Annotated[Path | None, typer.Option(help="Class names in label order, one a line.")]
ClassMap = Annotated[
    str | None,
    typer.Option(
        metavar="fixed|compat",
        help="Classes of the centre head: as trained, or as upstream's released code reads them.",
    ),
]
MaxCentres = Annotated[
    int | None, typer.Option(help="Best instance centres that are looked at; 500.")
]
ScoreThreshold = Annotated[
    float | None, typer.Option(help="Instance centres score higher; the variant's own, 0.3 or 0.1.")
]
ThingVoxels = Annotated[
    int | None, typer.Option(help="Voxels that can get an instance in one frame; 65536.")
]
History = Annotated[
    str | None,
    typer.Option(
        metavar="online|offline",
        help="Networks with a memory: past maps moved along, or pooled anew (with --rig input).",
    ),
]
Points = Annotated[int | None, typer.Option(help="Rows of the input of points.")]
Surplus = Annotated[
    str | None,
    typer.Option(metavar="refuse|thin", help="More points than rows: refused, or thinned evenly."),
]
Bins = Annotated[int | None, typer.Option(help="Height bins of PillarHist; 64.")]
CountMode = Annotated[
    str | None, typer.Option(metavar="clip8|log1p|raw", help="Counts as PillarHist sees them.")
]
XyMode = Annotated[
    str | None, typer.Option(metavar="unit|metre", help="Places as PillarHist sees them.")
]
Proj = Annotated[
    str | None, typer.Option(metavar="linear_bn_relu|linear", help="The layer of PillarHist.")
]
MaxPoints = Annotated[int | None, typer.Option(help="Of one pillar of PointPillars; 32.")]
MaxPillars = Annotated[
    int | None,
    typer.Option(help="With points: of PointPillars 40000; of PillarHist 24576, nuScenes 65536."),
]
Nms = Annotated[
    str | None,
    typer.Option(
        metavar="rotated|peak|none",
        help="How boxes that overlap go: by rotated IoU, as local maxima of heat maps, or not.",
    ),
]
Candidates = Annotated[int | None, typer.Option(help="Boxes that suppression looks at; 500.")]
Boxes = Annotated[int | None, typer.Option(help="Rows of the output of boxes.")]
Precision = Annotated[
    str | None,
    typer.Option(metavar="integer|float", help="Language models: integers, or the reference."),
]
Bits = Annotated[
    str | None,
    typer.Option(metavar="W8A8", help="Bits of weights and activations: W8A8, W6A6, W4A8, W4A4."),
]
Smoothing = Annotated[
    str | None,
    typer.Option(metavar="analytic|none", help="Of channels; analytic with --basis own."),
]
Factors = Annotated[
    Path | None,
    typer.Option(help="Smoothing that `edgeport smooth` learned, in place of --smoothing."),
]
Basis = Annotated[
    str | None,
    typer.Option(
        metavar="rotated|own", help="Of language models' channels; rotated, where none stands out."
    ),
]
Rounding = Annotated[
    str | None,
    typer.Option(metavar="gptq|nearest", help="Of language models' weights; gptq."),
]
Text = Annotated[
    Path | None, typer.Option(help="UTF-8 text that statistics come from; a built-in English one.")
]
Context = Annotated[
    int | None,
    typer.Option(min=1, help="Positions of a language model; at most 8192 if not given."),
]
Runtime = Annotated[
    str | None,
    typer.Option(metavar="onnxruntime|tensorrt", help="Whose operators language models use."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def command(
    variant: Variant,
    output: OutputFile,
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    rig: RigChoice = None,
    reference_rig: ReferenceRig = None,
    image_input: ImageInput = "uint8",
    logits: Logits = False,
    seed: Seed = None,
    image_size: ImageSize = None,
    cameras: Cameras = None,
    depth: Depth = None,
    grid: Ranges = None,
    classes: Classes = None,
    class_map: ClassMap = None,
    max_centres: MaxCentres = None,
    score_threshold: ScoreThreshold = None,
    thing_voxels: ThingVoxels = None,
    history: History = None,
    points: Points = None,
    surplus: Surplus = None,
    bins: Bins = None,
    count_mode: CountMode = None,
    xy_mode: XyMode = None,
    proj: Proj = None,
    max_points: MaxPoints = None,
    max_pillars: MaxPillars = None,
    nms: Nms = None,
    candidates: Candidates = None,
    boxes: Boxes = None,
    precision: Precision = None,
    bits: Bits = None,
    smoothing: Smoothing = None,
    factors: Factors = None,
    basis: Basis = None,
    rounding: Rounding = None,
    text: Text = None,
    context: Context = None,
    runtime: Runtime = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export a network to a model file: one ONNX of standard operators that describes itself.

    For example:

        edgeport export flashocc-m0 -o m0.onnx

        edgeport export flashocc-m0 --checkpoint w.pth --rig rig.json -o m0.onnx

        edgeport export flashocc --checkpoint w.pth --classes names.txt -o w.onnx

        edgeport export flashocc-m0 --rig rig.json --input camera -o m0.onnx

        edgeport export panoptic-flashocc-8f-pano --checkpoint w.pth --rig rig.json -o 8f.onnx

        edgeport export pillarhist-pointpillars-kitti --bins 32 -o ph.onnx

        edgeport export illm --checkpoint DIR --bits W4A8 -o llm.onnx

    Before the file is written its graph is compared with PyTorch on generated inputs. The same
    command gives the same bytes.

    With --input camera the board needs no Pillow: its antialiased resize is in the graph, equal bit
    for bit, for pictures of the rig's size.

    Known limits: batch size is 1 and all shapes are fixed. A baked rig fits one vehicle: another
    one needs another export, or --rig input. Random weights know nothing; trained ones, that come
    with edgeport for the miniatures, know the generated world alone.
    """
    arguments = dict(locals())
    given = _given(arguments)
    out = Output(json=as_json)
    with out.progress("Export") as progress:
        result = export(variant, output, progress=progress, **given)
    _say(out, result)
    model = result.model
    file = {"path": str(model.path), "sha256": model.sha256, "size_bytes": model.size_bytes}
    out.result({**file, **result.report})


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, under the names of the families' options; each family refuses the others'."""
    options = {**arguments, "input": arguments["image_input"]}
    if options["input"] == "uint8":
        options["input"] = None
    for name in ("variant", "output", "as_json", "image_input"):
        del options[name]
    return {
        name: value for name, value in options.items() if value is not None and value is not False
    }


def _say(out: Output, result: ExportResult) -> None:
    report, model = result.report, result.model
    out.say(f"{model.path} ({model.size_bytes / 1e6:.1f} MB): {report['variant']}")
    out.say(f"{report['parameters'] / 1e6:.2f} M parameters, {report['weights']}")
    for note in report["notes"]:
        out.say(f"  {note}")
    for line in report.get("says", _said_of_occupancy(report)):
        out.say(line)
    out.say(f"took {sum(report['seconds'].values()):.1f} s; next: edgeport inspect {model.path}")


def _said_of_occupancy(report: Mapping[str, Any]) -> Iterator[str]:
    agreement = report["agreement"]
    ties = f"; {agreement['ties']} ties fall differently" if agreement["ties"] else ""
    yield (
        f"agrees with PyTorch: logits within {agreement['max_difference']:.2g} (tolerance "
        f"{agreement['tolerance']:.2g}), labels of {agreement['labels']} voxels equal{ties}"
    )
    if "instances" in agreement:
        yield f"instances of {agreement['instances']} voxels equal those of the numpy form"
    yield f"pooling: {report['pooling']}"
