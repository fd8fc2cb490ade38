"""Compiled kernels in place of a model file's ``edgeport`` functions, for ONNX Runtime on the CPU.

A function that a registered kernel of the same name, domain and types claims is left alone by ONNX
Runtime, every other one is written out in standard operators. So a file runs with or without this
library, and gives the same bits.
"""

from __future__ import annotations

from runtimes.kernels.compiling import library

__all__ = ["library"]
