"""NVIDIA ModelOpt's ONNX quantizer, on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize
from peer_script import Feeds, main


def int8(model: Path, feeds: Feeds, output: Path, *, method: str) -> None:
    quantize(
        str(model),
        quantize_mode="int8",
        # it takes one array an input, samples along the first axis, and splits it by the model's
        calibration_data={n: np.concatenate([f[n] for f in feeds]) for n in feeds[0]},
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(output),
    )


main({method: partial(int8, method=method) for method in ("max", "entropy")})
