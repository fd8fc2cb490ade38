"""One way to name any set of samples.

| source                     | what it is                                                       |
|----------------------------|------------------------------------------------------------------|
| ``FILE.npz``               | one sample                                                       |
| folder                     | ``.npz`` files, with the manifest of ``edgeport samples`` if any |
| folder                     | ``.npy`` files, for a model with one input                       |
| folder                     | images, with or without sub-folders                              |
| folder                     | a nuScenes root (``v1.0-*/`` and ``samples/``)                   |
| folder                     | a KITTI object root (``training/velodyne`` …)                    |
| folder                     | a sample folder (``sample.json``), or a folder of such           |
| ``synthetic:COUNT[:SEED]`` | frames of a generated world, for the cameras of the model        |
| ``synthetic:DRIVESxFRAMES[:SEED]`` | drives through it: key frames in order of time, with LiDAR |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.samples.base import Source
from calibration.samples.image_files import Folders
from calibration.samples.npz import MANIFEST, NpzSamples
from exporters.errors import UserError
from exporters.modelfile import ModelSpec

SYNTHETIC = "synthetic"


def open_samples(
    source: str | Path, spec: ModelSpec | None = None, *, folders: Folders = "ignored"
) -> Source:
    """The samples that ``source`` names, ready for the inputs that ``spec`` describes.

    Nothing is read before it is iterated over; one sample at a time is in memory.

    Args:
        source: see the module's table.
        spec: of the model that takes them; None for an ONNX from elsewhere, whose samples can only
            be ``.npz`` files, unless ``calibration.samples.description`` describes its inputs.
        folders: what sub-folders of images are.

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
    return _folder(path, spec, folders)


def choose(samples: Source, count: int | None, seed: int | None = None) -> Source:
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


def holds_arrays(path: Path) -> bool:
    """Whether a source holds arrays that are ready for a model, rather than what sensors gave."""
    from calibration.samples.folders import DESCRIPTION

    if path.is_file() or (path / MANIFEST).is_file():
        return True
    return not (path / DESCRIPTION).is_file() and any(
        next(path.glob(pattern), None) is not None for pattern in ("*.npz", "*.npy")
    )


def _folder(path: Path, spec: ModelSpec | None, folders: Folders) -> Source:
    from calibration.samples.arrays import open_arrays
    from calibration.samples.folders import open_folders, sample_folders
    from calibration.samples.image_files import image_files, open_images
    from calibration.samples.kitti import KittiRoot, open_kitti
    from calibration.samples.nuscenes import NuScenesRoot, open_nuscenes

    _require_one_set(path)
    if holds_arrays(path) and next(path.glob("*.npy"), None) is None:
        return NpzSamples.open(path, spec)
    nuscenes, kitti = NuScenesRoot.find(path), KittiRoot.find(path)
    if nuscenes is None and kitti is None and sample_folders(path):
        return open_folders(path, spec)
    arrays = holds_arrays(path)
    if not (nuscenes or kitti or arrays or image_files(path)):
        empty = not any(path.iterdir())
        raise UserError(
            f"{path} {'is empty' if empty else 'holds neither samples nor images'}",
            fix="Make samples with: edgeport samples SOURCE --model model.onnx -o DIR",
        )
    if spec is None:
        raise UserError(
            f"{path} holds raw data, and nobody says what the model's inputs want of it",
            fix=f"Make samples with: edgeport samples {path} --model model.onnx -o DIR",
        )
    if nuscenes is not None:
        return open_nuscenes(nuscenes, spec)
    if kitti is not None:
        return open_kitti(kitti, spec)
    return open_arrays(path, spec) if arrays else open_images(path, spec, folders)


def _require_one_set(path: Path) -> None:
    from calibration.samples.writing import SPLIT_MANIFEST

    if (path / SPLIT_MANIFEST).is_file():
        sets = sorted(file.parent.name for file in path.glob(f"*/{MANIFEST}"))
        raise UserError(
            f"{path} holds several sets: {', '.join(sets)}",
            fix=f"Name one of them: {path / sets[0] if sets else path}",
        )


def _synthetic(source: str, spec: ModelSpec | None) -> Source:
    from calibration.samples.synthetic import open_asked, parse_synthetic

    return open_asked(parse_synthetic(source), spec)
