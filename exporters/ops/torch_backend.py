"""Eager PyTorch in integer arithmetic: the same algorithms on the CPU or a CUDA device.

Exact: int64 tensors throughout; only the 8-bit matrix product goes through float64, where every
partial sum is below 2^53.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from exporters.ops.algebra import Value
from exporters.ops.eager import EagerBackend

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TorchBackend(EagerBackend):
    """Computes with torch tensors on ``device``."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        import torch

        return Value(self, torch.from_numpy(np.array(value, dtype)).to(self.device))

    def _parts(self, raw: Tensor, sizes: list[int], axis: int) -> Sequence[Tensor]:
        return tuple(_torch().split(raw, sizes, axis))

    kernels: ClassVar[Mapping[str, Any]] = {
        "Add": lambda a, b: a + b,
        "Sub": lambda a, b: a - b,
        "Mul": lambda a, b: a * b,
        "Div": lambda a, b: a.div(b, rounding_mode="trunc"),
        "Neg": lambda a: -a,
        "Abs": lambda a: a.abs(),
        "GreaterOrEqual": lambda a, b: a >= b,
        "Greater": lambda a, b: a > b,
        "Less": lambda a, b: a < b,
        "Where": lambda c, a, b: a.where(c, b),
        "Cast": lambda a, *, to: a.to(_dtype(to)),
        "Clip": lambda a, low, high: a.clamp(low, high),
        "Gather": lambda a, index, *, axis: _gather(a, index, axis),
        "GatherElements": lambda a, index, *, axis: a.gather(axis, index),
        "ArgMax": lambda a, *, axis, keepdims: _first_argmax(a, axis, bool(keepdims)),
        "ReduceSum": lambda a, axes, *, keepdims: a.sum(axes.tolist(), keepdim=bool(keepdims)),
        "ReduceMin": lambda a, axes, *, keepdims: a.amin(axes.tolist(), keepdim=bool(keepdims)),
        "Unsqueeze": lambda a, axes: a.unsqueeze(int(axes[0])),
        "Reshape": lambda a, shape: a.reshape(
            [a.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())]
        ),
        "Transpose": lambda a, *, perm: a.permute(perm),
        "Concat": lambda *values, axis: _torch().cat(values, axis),
        "Shape": lambda a, *, start, end: _torch().tensor(a.shape[start:end], device=a.device),
        "Range": lambda start, stop, step: _torch().arange(
            int(start), int(stop), int(step), device=start.device
        ),
        "Slice": lambda a, start, end, axis: _slice(a, int(start[0]), int(end[0]), int(axis[0])),
        "Squeeze": lambda a, axes: a.squeeze(axes.tolist()),
        "MatMulInteger": lambda a, b, zero=0: ((a.double() - float(zero)) @ b.double()).to(
            _dtype("int32")
        ),
    }


def _torch() -> Any:
    import torch

    return torch


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(_torch(), name)
    return found


def _gather(a: Tensor, index: Tensor, axis: int) -> Tensor:
    taken = a.index_select(axis, index.flatten())
    return taken.reshape([*a.shape[:axis], *index.shape, *a.shape[axis + 1 :]])


def _first_argmax(a: Tensor, axis: int, keep: bool) -> Tensor:
    """ONNX takes the first of equal maxima; torch says nothing about which."""
    best = a == a.amax(axis, keepdim=True)
    return best.int().argmax(axis, keepdim=keep)


def _slice(a: Tensor, start: int, end: int, axis: int) -> Tensor:
    length = a.shape[axis]
    begin, stop, _ = slice(start, end).indices(length)
    return a.narrow(axis, begin, max(stop - begin, 0))
