"""Compiled kernels in place of a model file's ``edgeport`` functions, for ONNX Runtime on the CPU.

A function that a registered kernel of the same domain, name and types claims is left alone by ONNX
Runtime; every other one is written out in standard operators. So a file runs with or without this
library, and gives the same bits: kernels compute in integers too, and tests compare them with the
functions over their whole range.

What was learned on SmolLM2-135M, integer W8A8, a step of decoding with one thread
(``benchmarks/results/illm_kernels.json``). Stock operators spend an eighth of it on matrix
products; the rest is 21,000 nodes that start, and 64-bit divisions. Kernels for single operators
(`DIMatMul` to `DIClippedSoftmax`) leave some five thousand nodes. Kernels for half a layer each
(`DIAttention`, `DIFeedForward`) leave 92, and the step waits for its weights: 134 MB in 13 ms.
Inside them divisions by a row's constant are an estimate and an exact correction, which vectorize.
Next would be 4-bit weights left packed, for decoding, and for prompts AMX tiles.
"""

from __future__ import annotations

from runtimes.kernels.compiling import library
from runtimes.kernels.loading import kernel_names, load_with_kernels

__all__ = ["kernel_names", "library", "load_with_kernels"]
