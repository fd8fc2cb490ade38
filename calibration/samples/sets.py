"""From a source to sets on disk: what ``edgeport samples`` does.

spec = spec_for(Path("detector.onnx"), {"color": "RGB", "resize": "letterbox", "scale": "1/255"})
make_sets("photos/", Path("sets"), spec, split="calibration=16,validation=8,held-out=8")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.samples.base import Source
from calibration.samples.description import described, graph_inputs, read_description
from calibration.samples.doctor.overlap import calibration_digests, hashes_of
from calibration.samples.findings import DIGEST
from calibration.samples.frames import FrameSamples
from calibration.samples.image_files import Folders
from calibration.samples.npz import NpzSamples
from calibration.samples.open import SYNTHETIC, choose, holds_arrays, open_samples
from calibration.samples.sequences import require_beginnings
from calibration.samples.splitting import Share, assign, parse_split
from calibration.samples.writing import Progress, write_samples, write_split
from exporters.errors import UserError
from exporters.modelfile import ModelFile, ModelSpec

SYNTHETIC_COUNT = 16


@dataclass(frozen=True)
class MadeSets:
    """What was written.

    Attributes:
        source: as it was understood: ``synthetic:24:0`` where ``synthetic`` was asked for.
        sets: name to samples; the name of a single set is empty.
        left_out: sample to the earlier one whose inputs it repeats.
        rig_mismatch: see `FrameSamples.rig_mismatch`; None where no rig is involved.
        scenes: number of scenes in the source, 0 where it has none.
    """

    source: str
    sets: Mapping[str, NpzSamples]
    left_out: Mapping[str, str] = field(default_factory=dict)
    rig_mismatch: float | None = None
    scenes: int = 0


def spec_for(
    model: Path | None,
    said: Mapping[str, Any] | None = None,
    description: Path | None = None,
    *,
    source: str = "",
) -> ModelSpec:
    """What samples for a model must be: its self-description, or what its user says.

    Args:
        model: ONNX file; None where there is none yet, then everything has to be said.
        said: of one input, keys as in ``calibration.samples.description``.
        description: YAML or JSON file that says it, of all inputs.
        source: of the samples; arrays need no description.

    Raises:
        UserError: nobody says what an input wants, or two say it.
    """
    file = ModelFile(model) if model is not None else None
    items = [dict(said)] if said else []
    if file is not None and file.spec is not None:
        if items or description is not None:
            raise UserError(
                f"{file.path} says itself what its inputs want",
                fix="Leave out the options that describe an input",
            )
        return file.spec
    if items and description is not None:
        raise UserError("options and --describe both describe inputs", fix="Give one of the two")
    if description is not None:
        items = read_description(description)
    graph = graph_inputs(file.proto) if file is not None else None
    if graph and not items and source and Path(source).exists() and holds_arrays(Path(source)):
        items = [{"name": item.name, "kind": "tensor"} for item in graph]
    return described(items, graph, str(file.path) if file is not None else "the model")


def make_sets(
    source: str,
    output: Path,
    spec: ModelSpec,
    *,
    split: str | None = None,
    count: int | None = None,
    seed: int | None = None,
    apart_from: Iterable[Path] = (),
    folders: Folders = "ignored",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MadeSets:
    """Write one sample set, or with ``split`` several disjoint ones in sub-folders of ``output``.

    Args:
        source: what ``open_samples`` takes, or ``synthetic``.
        count: of samples to choose from the source first; all without it.
        seed: of the synthetic world, of a random choice, and of the split.
        apart_from: sample sets and model files; no sample that they know enters a set.

    Raises:
        UserError: an argument, a file or a sample is wrong; nothing is left behind.
    """
    shares = parse_split(split) if split is not None else ()
    known = list(apart_from)
    if known and not shares:
        raise UserError("--apart-from is for splits", fix="Give --split evaluation=16")
    if source == SYNTHETIC:
        source = f"{SYNTHETIC}:{count or _asked(shares)}:{seed or 0}"
        count = None
    opened = open_samples(source, spec, folders=folders)
    seen = choose(opened, count, None if shares else seed)
    pools = assign(seen.groups, shares, seed or 0) if shares else {}
    if spec.states:
        require_beginnings(opened, seen.names)
        for pool in pools.values():
            chosen = pool.indices[: pool.count]
            require_beginnings(opened, [seen.names[index] for index in chosen])
    mismatch = seen.rig_mismatch if isinstance(seen, FrameSamples) else None
    grouped = len(set(seen.groups)) if seen.groups != seen.names else 0
    if not shares:
        written = write_samples(
            seen, output, source=source, seed=seed, overwrite=overwrite, progress=progress
        )
        return MadeSets(source, {"": written}, {}, mismatch, grouped)
    result = write_split(
        seen,
        output,
        pools,
        origin=source,
        split=split or "",
        seed=seed or 0,
        taken=_taken(known),
        overwrite=overwrite,
        progress=progress,
    )
    return MadeSets(source, result.sets, result.left_out, mismatch, grouped)


def _asked(shares: Iterable[Share]) -> int:
    """Frames to render for a split; without counts nobody says how many."""
    items = list(shares)
    if any(share.count is None for share in items):
        raise UserError("the synthetic world has no end to take a share of", fix="Give --count")
    return sum(share.count or 0 for share in items) or SYNTHETIC_COUNT


def _taken(paths: Iterable[Path]) -> dict[str, str]:
    """Digest to where it is known from."""
    taken: dict[str, str] = {}
    for path in paths:
        if path.suffix == ".onnx":
            digests = calibration_digests(ModelFile(path).quantization)
            if not digests:
                raise UserError(
                    f"{path} does not say what it was calibrated on",
                    fix="Name the calibration set itself",
                )
            taken |= {digest: str(path) for digest in digests}
        else:
            samples: Source = open_samples(path)
            for name, digest in zip(samples.names, hashes_of(samples), strict=True):
                taken[digest[:DIGEST]] = f"{path}: {name}"
    return taken
