"""``edgeport samples``: a calibration or evaluation set on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output

Source = Annotated[
    str,
    typer.Argument(help="nuScenes-like folder, .npz files, 'synthetic' or synthetic:COUNT[:SEED]."),
]
Model = Annotated[Path, typer.Option(help="Model file that will take the samples.")]
Directory = Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")]
Count = Annotated[int | None, typer.Option(min=1, help="How many; all of a folder without it.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Of the synthetic world, or of a random choice from a folder."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a sample set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_SYNTHETIC_COUNT = 16
_MISMATCH_SHOWN = 0.05


def command(
    source: Source,
    model: Model,
    output: Directory,
    count: Count = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write samples for a model: what calibration, verify and bench read.

    For example:

        edgeport samples nuscenes/ --model m0.onnx -o evaluation/

        edgeport samples synthetic --count 16 --model m0.onnx -o calibration/

    The synthetic world needs no data. It has ground truth, but a network trained on real images
    recognises little in it: measure accuracy on real samples.

    Known limits: the folder's layout is one sub-folder a sample with sample.json and JPEGs; raw
    nuScenes databases are not read. Files are not compressed, about 4 MB a sample of six cameras.
    """
    from calibration.samples import open_samples, write_samples
    from calibration.samples.frames import FrameSamples
    from calibration.samples.open import SYNTHETIC, choose
    from exporters.modelfile import ModelFile

    out = Output(json=as_json)
    start = time.perf_counter()
    spec = ModelFile(model).require_spec()
    if source == SYNTHETIC:
        source = f"{SYNTHETIC}:{count or _SYNTHETIC_COUNT}:{seed or 0}"
        count = seed = None
    samples = choose(open_samples(source, spec), count, seed)
    with out.progress("Samples") as progress:
        written = write_samples(
            samples, output, source=source, overwrite=overwrite, progress=progress
        )
    mismatch = samples.rig_mismatch if isinstance(samples, FrameSamples) else None
    seconds = time.perf_counter() - start
    out.say(f"wrote {len(written)} samples for {spec.variant} to {output} in {seconds:.1f} s")
    if mismatch is not None and mismatch > _MISMATCH_SHOWN:
        out.say(
            f"note: the model has another rig baked in; {mismatch:.0%} of the points land in "
            "another cell. Export with --rig FILE or --rig input for these cameras"
        )
    out.result(
        {
            "directory": output,
            "source": source,
            "variant": spec.variant,
            "samples": written.names,
            "sha256": written.sha256,
            "rig_mismatch": mismatch,
            "seconds": seconds,
        }
    )
