"""What a layer multiplies by its weights, for a few positions of its output: plain rows of numbers.

A convolution's output at one position is a matrix product: the inputs under the kernel, group by
group, times the kernel. With these rows a layer's error is linear algebra, whatever its geometry:

    y[n, g, o] = sum_k rows[n, g, k] w[g, o, k] + b[g, o]

Conv, tap i of output position o reads     t = o stride + i dilation - pad,        0 <= t < length
ConvTranspose the same, but input position t / stride with t = o + pad - i dilation, where it
divides. Taps that read padding or between the inputs are zero. 1-D, 2-D and 3-D alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.conv import conv_geometry
from calibration.graph.queries import Weighted, attribute

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """One weighted node as a product of rows and a matrix for every group.

    Attributes:
        op_type: Conv, ConvTranspose, Gemm or MatMul.
        shape: of the float weight.
        groups: of channels; 1 for a matrix product.
        strides, dilations, pads: a number each spatial axis; pads are those at the begin.
        transposed: Gemm with ``transB``.
    """

    op_type: str
    shape: tuple[int, ...]
    groups: int
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    transposed: bool

    @property
    def outputs(self) -> int:
        """Output channels of all groups."""
        return int(self.matrix(np.zeros(self.shape, np.int8)).shape[1]) * self.groups

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """A weight of the node's shape as ``[groups, out/groups, k]``."""
        if self.op_type == "Conv":
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        if self.op_type == "ConvTranspose":  # [in, out/groups, *kernel]
            split = weight.reshape(self.groups, -1, *weight.shape[1:])
            turned: NDArray[Any] = np.moveaxis(split, 2, 1)
            return turned.reshape(self.groups, weight.shape[1], -1)
        turned = weight if self.transposed else weight.T
        return turned[np.newaxis]

    def weight(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Back from ``[groups, out/groups, k]``."""
        if self.op_type == "Conv":
            return matrix.reshape(self.shape)
        turned: NDArray[Any]
        if self.op_type == "ConvTranspose":
            inputs = self.shape[0] // self.groups
            split = matrix.reshape(self.groups, self.shape[1], inputs, *self.shape[2:])
            turned = np.moveaxis(split, 1, 2)
            return turned.reshape(self.shape)
        turned = matrix[0] if self.transposed else matrix[0].T
        return turned

    def rows(self, x: Floats, output_shape: tuple[int, ...], positions: NDArray[Any]) -> Floats:
        """``[n, groups, k]``: what the chosen output positions see of ``x``.

        Args:
            x: the node's data input.
            output_shape: of the node's output.
            positions: int64 ``[n]``, flat over batch and space (all axes but the last for a matrix
                product).
        """
        if self.op_type in ("Gemm", "MatMul"):
            return np.ascontiguousarray(x.reshape(-1, 1, x.shape[-1])[positions])
        sizes = (output_shape[0], *output_shape[2:])
        batch, *place = np.unravel_index(positions, sizes)
        taps = np.array(list(product(*map(range, self.shape[2:]))))  # [kernel, axes]
        index, valid = [], np.ones((len(positions), len(taps)), bool)
        for axis, at in enumerate(place):
            where, inside = self._reads(axis, at[:, None], taps[None, :, axis], x.shape[2 + axis])
            index.append(where)
            valid &= inside
        chosen: tuple[Any, ...] = (batch[:, None], slice(None), *index)
        seen = x[chosen]  # [n, kernel, channels]
        seen = np.where(valid[..., None], seen, np.float32(0))
        grouped = np.moveaxis(seen, 1, 2).reshape(len(positions), self.groups, -1)
        return np.ascontiguousarray(grouped, dtype=np.float32)

    def chosen(self, y: Floats, positions: NDArray[Any]) -> Floats:
        """``[n, groups, out/groups]``: an output of the node at the same positions."""
        if self.op_type not in ("Gemm", "MatMul"):
            y = np.moveaxis(y, 1, -1)
        picked = y.reshape(-1, y.shape[-1])[positions]
        return np.ascontiguousarray(picked.reshape(len(positions), self.groups, -1))

    def count(self, output_shape: tuple[int, ...]) -> int:
        """Number of output positions."""
        size = int(np.prod(output_shape))
        channels = output_shape[-1 if self.op_type in ("Gemm", "MatMul") else 1]
        return size // max(channels, 1)

    def _reads(self, axis: int, at: Any, tap: Any, length: int) -> tuple[Any, Any]:
        """Input index of a tap, clipped into the axis, and whether it is one."""
        stride, dilation, pad = self.strides[axis], self.dilations[axis], self.pads[axis]
        if self.op_type == "Conv":
            where = at * stride + tap * dilation - pad
            divides = True
        else:
            spread = at + pad - tap * dilation
            where, divides = spread // stride, spread % stride == 0
        return np.clip(where, 0, length - 1), (where >= 0) & (where < length) & divides


def product_of(item: Weighted) -> Product | str:
    """A weighted node as a product, or the reason why it cannot be one."""
    node, shape = item.node, tuple(int(size) for size in item.weight.shape)
    if node.op_type in ("Gemm", "MatMul"):
        if len(shape) != 2:
            return "a batch of matrices"
        transposed = bool(attribute(node, "transB", 0))
        return Product(node.op_type, shape, 1, (), (), (), transposed)
    axes = len(shape) - 2
    groups = int(attribute(node, "group", 1))
    if node.op_type == "Conv":
        geometry = conv_geometry(node, shape)
        if isinstance(geometry, str):
            return geometry
        strides, dilations, pads = geometry.strides, geometry.dilations, geometry.pads_begin
    else:
        if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return "ConvTranspose with auto_pad"
        if "output_shape" in node.attributes:
            return "ConvTranspose with output_shape"
        ones = (1,) * axes
        strides = tuple(attribute(node, "strides", ones))
        dilations = tuple(attribute(node, "dilations", ones))
        pads = tuple(attribute(node, "pads", (0,) * 2 * axes))[:axes]
    return Product(node.op_type, shape, groups, strides, dilations, pads, False)
