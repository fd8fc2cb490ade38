"""One way to name any set of samples.

| source                     | what it is                                                       |
|----------------------------|------------------------------------------------------------------|
| ``FILE.npz``               | one sample                                                       |
| folder                     | ``.npz`` files, with the manifest of ``edgeport samples`` if any |
| folder                     | a nuScenes-like sample (``sample.json``), or a folder of such    |
| ``synthetic:COUNT[:SEED]`` | frames of a generated world, for the cameras of the model        |
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from calibration.samples.frames import FrameSamples
from calibration.samples.npz import MANIFEST, NpzSamples
from exporters.errors import UserError
from exporters.modelfile import ModelSpec

SYNTHETIC = "synthetic"


OpenSamples = NpzSamples | FrameSamples


def open_samples(source: str | Path, spec: ModelSpec | None = None) -> OpenSamples:
    """The samples that ``source`` names, ready for the inputs that ``spec`` describes.

    Nothing is read before it is iterated over; one sample at a time is in memory.

    Args:
        source: see the module's table.
        spec: of the model that takes them; None for an ONNX from elsewhere, whose samples can only
            be ``.npz`` files.

    Raises:
        UserError: nothing there, or nothing that this model can take. Bad samples raise when it is
            their turn.
    """
    if str(source).split(":")[0] == SYNTHETIC:
        return _synthetic(str(source), spec)
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"no samples at {path}",
            fix="Give a folder, a .npz file or synthetic:COUNT[:SEED]",
        )
    if path.is_file():
        if path.suffix != ".npz":
            raise UserError(f"{path} is no .npz file", fix="Give a folder or a .npz file")
        return NpzSamples.open(path, spec)
    return _folder(path, spec)


def choose(samples: OpenSamples, count: int | None, seed: int | None = None) -> OpenSamples:
    """``count`` of ``samples``: the first ones, or with a ``seed`` a random choice, in order.

    Raises:
        UserError: there are fewer.
    """
    if count is None:
        return samples
    if count > len(samples):
        raise UserError(
            f"{count} samples were asked for, the source holds {len(samples)}",
            fix="Ask for fewer, or leave --count out",
        )
    if seed is None:
        return samples.subset(range(count))
    chosen = np.random.default_rng(seed).choice(len(samples), count, replace=False)
    return samples.subset(sorted(int(index) for index in chosen))


def _folder(path: Path, spec: ModelSpec | None) -> OpenSamples:
    from calibration.samples.folders import DESCRIPTION, open_folders, sample_folders

    described = (path / DESCRIPTION).is_file()
    if (path / MANIFEST).is_file() or (any(path.glob("*.npz")) and not described):
        return NpzSamples.open(path, spec)
    if sample_folders(path):
        return open_folders(path, spec)
    what = "is empty" if not any(path.iterdir()) else "holds neither .npz files nor sample folders"
    raise UserError(
        f"{path} {what}",
        fix="Make samples with: edgeport samples SOURCE --model model.onnx -o DIR",
    )


def _synthetic(source: str, spec: ModelSpec | None) -> OpenSamples:
    found = re.fullmatch(rf"{SYNTHETIC}:(\d+)(?::(\d+))?", source)
    if found is None or int(found[1]) == 0:
        raise UserError(
            f"{source!r} names no synthetic samples",
            fix="Write synthetic:COUNT or synthetic:COUNT:SEED",
        )
    from calibration.samples.synthetic import open_synthetic

    return open_synthetic(int(found[1]), int(found[2] or 0), spec)
