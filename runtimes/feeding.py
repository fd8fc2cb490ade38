"""Inputs for timing where no samples are given: seeded, in the shapes the file itself declares.

Numbers made up for floats and images are as good as real ones for a latency that does not depend
on data. Integers are zeros: the only value that is a valid index into any table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes import passport
from runtimes.base import Array, TensorInfo
from runtimes.signature import input_infos


def inputs_of_file(path: Path) -> tuple[TensorInfo, ...]:
    """Inputs of a model file, or of an engine by its passport."""
    if path.suffix == ".onnx":
        return input_infos(ModelFile(path).proto)
    return passport.read_passport(path).inputs


def random_feeds(inputs: Sequence[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """One sample: N(0, 1) floats, uniform uint8 and bool, zeros for other integers.

    Raises:
        UserError: an input has a dynamic axis, so its size is not known.
    """
    generator = np.random.default_rng(seed)
    return {info.name: _random_array(info, generator) for info in inputs}


def describe_random(inputs: Sequence[TensorInfo], seed: int) -> str:
    """One sentence that states what was fed."""
    integers = [i.name for i in inputs if np.dtype(i.dtype).kind in "iu" and i.dtype != "uint8"]
    zeros = f"; zeros for {', '.join(integers)}" if integers else ""
    return f"inputs are random, seed {seed}{zeros}: give --samples to time real data"


def _random_array(info: TensorInfo, generator: np.random.Generator) -> Array:
    array: Array
    if any(isinstance(size, str) for size in info.shape):
        raise UserError(
            f"input {info.name!r} has dynamic axes {list(info.shape)}; which size is meant?",
            fix="Give real inputs with --samples",
        )
    shape: Any = info.shape
    dtype = np.dtype(info.dtype)
    if dtype.kind == "f":
        array = generator.standard_normal(shape).astype(dtype)
    elif info.dtype == "uint8":
        array = generator.integers(0, 256, shape, dtype=np.uint8)
    elif info.dtype == "bool":
        array = generator.integers(0, 2, shape).astype(np.bool_)
    else:
        array = np.zeros(shape, dtype)
    return array
