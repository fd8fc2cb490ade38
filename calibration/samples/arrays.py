"""Folders of ``.npy`` files, one sample a file, for models with one input."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.samples.base import Array
from calibration.samples.lazy import LazySamples
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelSpec


def open_arrays(path: Path, spec: ModelSpec) -> LazySamples:
    """Every ``.npy`` file of a folder as the one input of a model.

    Raises:
        UserError: the model takes several inputs.
    """
    files = sorted(path.glob("*.npy"))
    if len(spec.inputs) != 1:
        raise UserError(
            f"{path} holds .npy files, but {spec.variant} takes "
            f"{', '.join(item.name for item in spec.inputs)}",
            fix="Write .npz files, with one array for each input",
        )
    name = spec.inputs[0].name
    return LazySamples(
        [file.stem for file in files],
        lambda index: {name: _read(files[index])},
        lambda index: sha256_file(files[index]),
        spec,
    )


def _read(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f"{path} is truncated or no .npy file of a plain array", fix="Copy it again"
        ) from error
    return array
