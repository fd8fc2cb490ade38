"""Integer-only operators: one file an operator, each an algorithm that NumPy, PyTorch and ONNX run.

The bodies are ONNX functions of domain ``edgeport``, made of standard integer operators that stock
ONNX Runtime has; no floating-point tensor occurs in any of them. See `exporters.ops.algebra`.

    from exporters.ops import NUMPY, di_quantize

    quantized, mantissa, exponent = di_quantize(NUMPY.constant(rows), levels=127)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.ops.algebra import DOMAIN, OPERATORS, Operator, Value
    from exporters.ops.dyadic import dyadic_align, dyadic_common, dyadic_fit, dyadic_product
    from exporters.ops.exponential import di_exp
    from exporters.ops.hadamard import mixed
    from exporters.ops.matmul import di_bias, di_matmul, di_matmul_wide
    from exporters.ops.norm import (
        di_layer_norm,
        di_rms_norm,
        di_rms_norm_cut,
        di_rms_norm_wide,
    )
    from exporters.ops.numpy_backend import NUMPY
    from exporters.ops.onnx_backend import GraphBackend
    from exporters.ops.quantize import di_quantize, di_quantize_cut
    from exporters.ops.residual import di_residual_add
    from exporters.ops.rotary import di_rotary
    from exporters.ops.softmax import di_clipped_softmax
    from exporters.ops.square_root import isqrt
    from exporters.ops.swiglu import di_swiglu
    from exporters.ops.torch_backend import TorchBackend

_HOMES = {
    # one source, three backends
    "DOMAIN": "algebra",
    "GraphBackend": "onnx_backend",
    "NUMPY": "numpy_backend",
    "OPERATORS": "algebra",
    "Operator": "algebra",
    "TorchBackend": "torch_backend",
    "Value": "algebra",
    # scales
    "dyadic_align": "dyadic",
    "dyadic_common": "dyadic",
    "dyadic_fit": "dyadic",
    "dyadic_product": "dyadic",
    # operators
    "di_bias": "matmul",
    "di_clipped_softmax": "softmax",
    "di_exp": "exponential",
    "di_layer_norm": "norm",
    "di_matmul": "matmul",
    "di_matmul_wide": "matmul",
    "di_quantize": "quantize",
    "di_quantize_cut": "quantize",
    "di_residual_add": "residual",
    "di_rms_norm": "norm",
    "di_rms_norm_cut": "norm",
    "di_rms_norm_wide": "norm",
    "di_rotary": "rotary",
    "di_swiglu": "swiglu",
    "isqrt": "square_root",
    "mixed": "hadamard",
}

__all__ = [
    "DOMAIN",
    "NUMPY",
    "OPERATORS",
    "GraphBackend",
    "Operator",
    "TorchBackend",
    "Value",
    "di_bias",
    "di_clipped_softmax",
    "di_exp",
    "di_layer_norm",
    "di_matmul",
    "di_matmul_wide",
    "di_quantize",
    "di_quantize_cut",
    "di_residual_add",
    "di_rms_norm",
    "di_rms_norm_cut",
    "di_rms_norm_wide",
    "di_rotary",
    "di_swiglu",
    "dyadic_align",
    "dyadic_common",
    "dyadic_fit",
    "dyadic_product",
    "isqrt",
    "mixed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "OPERATORS":
        for home in sorted(set(_HOMES.values())):
            importlib.import_module(f"exporters.ops.{home}")
    return getattr(importlib.import_module(f"exporters.ops.{_HOMES[name]}"), name)
