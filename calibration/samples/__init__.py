"""Samples: where scales and metrics come from.

samples = open_samples("synthetic:16", ModelFile("m0.onnx").spec)
write_samples(samples, Path("calibration-set"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.samples.base import (
        LABEL_PREFIX,
        Array,
        InMemorySamples,
        Sample,
        Samples,
        Source,
        hash_samples,
        input_hash,
        inputs_of,
        labels_of,
    )
    from calibration.samples.checks import require_samples
    from calibration.samples.mapping import map_samples
    from calibration.samples.npz import NpzSamples
    from calibration.samples.open import open_samples
    from calibration.samples.writing import write_samples, write_split

__all__ = [
    "LABEL_PREFIX",
    "Array",
    "InMemorySamples",
    "NpzSamples",
    "Sample",
    "Samples",
    "Source",
    "hash_samples",
    "input_hash",
    "inputs_of",
    "labels_of",
    "map_samples",
    "open_samples",
    "require_samples",
    "write_samples",
    "write_split",
]

_HOMES = {
    "NpzSamples": "calibration.samples.npz",
    "map_samples": "calibration.samples.mapping",
    "open_samples": "calibration.samples.open",
    "require_samples": "calibration.samples.checks",
    "write_samples": "calibration.samples.writing",
    "write_split": "calibration.samples.writing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "calibration.samples.base")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
