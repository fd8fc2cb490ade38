"""``edgeport samples``: calibration, validation and held-out sets on disk."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.console import Output

if TYPE_CHECKING:
    from calibration.samples.sets import MadeSets

Source = Annotated[
    str,
    typer.Argument(
        help="Image folder, .npz or .npy folder, nuScenes or KITTI root, sample folders, "
        "'synthetic', synthetic:COUNT[:SEED] or synthetic:DRIVESxFRAMES[:SEED]."
    ),
]
Model = Annotated[Path | None, typer.Option(help="ONNX file that will take the samples.")]
Directory = Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=SIZE,…",
        help="Disjoint sets, each in a sub-folder: a number of samples, a fraction (0.6, 20%) "
        "or 'rest'.",
    ),
]
Count = Annotated[int | None, typer.Option(min=1, help="How many; all of a folder without it.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Of the split, of a random choice, or of the synthetic world."),
]
ApartFrom = Annotated[
    list[Path] | None,
    typer.Option(help="Sample set or INT8 model file; what it knows stays out. May be repeated."),
]
Input = Annotated[str | None, typer.Option("--input", help="Input that the images are for.")]
Layout = Annotated[str | None, typer.Option(help="NCHW, NHWC, CHW, HWC, NHW or HW.")]
Color = Annotated[str | None, typer.Option(help="RGB, BGR or gray.")]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="Of the input, 480x640.")]
Resize = Annotated[
    str | None,
    typer.Option(help="stretch, letterbox, crop, or crop:N (shorter side N pixels first)."),
]
Scale = Annotated[
    str | None, typer.Option(help="value = (pixel × scale - mean) / std; 1, 1/255, …")
]
Mean = Annotated[str | None, typer.Option(help="One number, or one a channel of the input.")]
Std = Annotated[str | None, typer.Option(help="One number, or one a channel of the input.")]
Describe = Annotated[
    Path | None, typer.Option(help="YAML or JSON file that says what every input wants.")
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="nuscenes|kitti",
        help="Write generated drives as a data set of that format, not as inputs of a model.",
    ),
]
ImageWidth = Annotated[
    int | None, typer.Option(min=32, help="With --format nuscenes: pixels; 1600 without it.")
]
CameraCount = Annotated[int, typer.Option("--cameras", help="With --format nuscenes: 6 or 4.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a sample set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_SAID = ("name", "layout", "color", "size", "resize", "scale", "mean", "std")
_MISMATCH_SHOWN = 0.05


class FolderMeaning(str, Enum):
    """What sub-folders of an image folder are."""

    ignored = "ignored"
    classes = "classes"
    sequences = "sequences"


Folders = Annotated[
    FolderMeaning,
    typer.Option(
        help="What sub-folders of images are: classes become labels, sequences stay whole."
    ),
]


def command(
    source: Source,
    output: Directory,
    model: Model = None,
    split: Split = None,
    count: Count = None,
    seed: Seed = None,
    apart_from: ApartFrom = None,
    input_name: Input = None,
    layout: Layout = None,
    color: Color = None,
    size: Size = None,
    resize: Resize = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    describe: Describe = None,
    folders: Folders = FolderMeaning.ignored,
    form: Form = None,
    image_width: ImageWidth = None,
    cameras: CameraCount = 6,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write sample sets for a model: what quantize, verify and bench read.

    For example:

        edgeport samples nuscenes/ --model m0.onnx -o sets/
        --split calibration=16,validation=8,held-out=8

        edgeport samples photos/ --model detector.onnx --color RGB --resize letterbox
        --scale 1/255 -o sets/ --split calibration=0.5,held-out=rest

        edgeport samples synthetic --count 16 --model m0.onnx -o calibration/

        edgeport samples synthetic:2x20:7 --format nuscenes --image-width 704 -o world/

    No two samples of a split have equal inputs, no scene is in two of its sets, and the same seed
    gives the same bytes. What the model's file does not say about its inputs has to be said here:
    a wrong guess would calibrate wrong scales in silence.

    The synthetic world needs no data. It has ground truth, but a network trained on real images
    recognises little in it: measure accuracy on real samples.

    Known limits: one image a sample for models without self-description; of nuScenes key frames
    only, single sweeps. Files are not compressed, about 4 MB a sample of six cameras. Pictures that
    were saved anew count as different: only equal inputs are found.
    """
    from calibration.samples.sets import make_sets, spec_for

    out = Output(json=as_json)
    start = time.perf_counter()
    if form is not None:
        _write_world(out, source, output, form, image_width, cameras)
        return
    given = (input_name, layout, color, size, resize, scale, mean, std)
    told = {key: value for key, value in zip(_SAID, given, strict=True) if value is not None}
    spec = spec_for(model, told, describe, source=source)
    with out.progress("Samples") as progress:
        made = make_sets(
            source,
            output,
            spec,
            split=split,
            count=count,
            seed=seed,
            apart_from=apart_from or (),
            folders=folders.value,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    _say(out, made, spec.variant, output, seconds)
    out.result(_result(made, spec.variant, output, seconds))


def _write_world(
    out: Output, source: str, output: Path, form: str, image_width: int | None, cameras: int
) -> None:
    from calibration.samples.worlds import write_world

    start = time.perf_counter()
    with out.progress("World") as progress:
        written = write_world(
            source, output, form, image_width=image_width, cameras=cameras, progress=progress
        )
    seconds = time.perf_counter() - start
    out.say(
        f"wrote {written.drives} drives with {written.frames} key frames in the format of {form} "
        f"to {output} in {seconds:.1f} s"
    )
    out.result(
        {
            "directory": output,
            "source": source,
            "format": form,
            "drives": written.drives,
            "frames": written.frames,
            "seconds": seconds,
        }
    )


def _say(out: Output, made: MadeSets, variant: str, output: Path, seconds: float) -> None:
    sizes = [f"{len(samples)} {name or 'samples'}" for name, samples in made.sets.items()]
    scenes = f" from {made.scenes} scenes" if made.scenes else ""
    out.say(f"wrote {', '.join(sizes)}{scenes} for {variant} to {output} in {seconds:.1f} s")
    if made.left_out:
        name, other = next(iter(made.left_out.items()))
        out.say(f"left out {len(made.left_out)} whose inputs were there before: {name} = {other}")
    mismatch = made.rig_mismatch
    if mismatch is not None and mismatch > _MISMATCH_SHOWN:
        out.say(
            f"note: the model has another rig baked in; {mismatch:.0%} of the points land in "
            "another cell. Export with --rig FILE or --rig input for these cameras"
        )


def _result(made: MadeSets, variant: str, output: Path, seconds: float) -> dict[str, Any]:
    common = {
        "directory": output,
        "source": made.source,
        "variant": variant,
        "rig_mismatch": made.rig_mismatch,
        "seconds": seconds,
    }
    described = {
        name: {"samples": samples.names, "sha256": samples.sha256}
        for name, samples in made.sets.items()
    }
    if "" in described:
        return {**common, **described[""]}
    return {**common, "scenes": made.scenes, "sets": described, "left_out": made.left_out}
