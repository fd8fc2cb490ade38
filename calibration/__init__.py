"""Calibration: a model file and samples in, an INT8 or FP16 model file out.

    from calibration import QuantizeOptions, quantize, open_samples

    samples = open_samples("samples/", ModelFile("m0.onnx").spec)
    quantize("m0.onnx", samples, "m0.int8.onnx", QuantizeOptions(policy="onnxruntime"))

``observe`` makes statistics that serve several quantizations of one model; ``cast`` turns a float
or INT8 file's remainder into FP16 or BF16. ``learn_factors`` learns the smoothing of a language
model before it is exported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.fsbr.learning import learn_factors
    from calibration.fsbr.plan import FsbrPlan
    from calibration.observing.observers import observe
    from calibration.observing.statistics import Statistics
    from calibration.options import QuantizeOptions, QuantizeResult
    from calibration.precision.casting import CastResult, cast
    from calibration.quantizer import quantize
    from calibration.samples import open_samples

__all__ = [
    "CastResult",
    "FsbrPlan",
    "QuantizeOptions",
    "QuantizeResult",
    "Statistics",
    "cast",
    "learn_factors",
    "observe",
    "open_samples",
    "quantize",
]

_HOMES = {
    "CastResult": "calibration.precision.casting",
    "FsbrPlan": "calibration.fsbr.plan",
    "QuantizeOptions": "calibration.options",
    "QuantizeResult": "calibration.options",
    "Statistics": "calibration.observing.statistics",
    "cast": "calibration.precision.casting",
    "learn_factors": "calibration.fsbr.learning",
    "observe": "calibration.observing.observers",
    "open_samples": "calibration.samples",
    "quantize": "calibration.quantizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
