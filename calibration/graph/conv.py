"""What a Conv node says about its geometry, with every default and auto_pad resolved.

Weight tap i of an axis reads input position ``o * stride + i * dilation - pad_begin`` for output
position o. Two convolutions of one input can therefore become one (or one become two) when their
strides agree and their taps are placed at the same offsets ``i * dilation - pad_begin``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calibration.graph.queries import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

Axes = tuple[int, ...]


@dataclass(frozen=True)
class ConvGeometry:
    """Per spatial axis, in axis order; 1-D, 2-D and 3-D alike.

    Attributes:
        pads_begin: zeros before the first element of each axis.
        pads_end: zeros after the last.
        groups: of input and output channels.
    """

    kernel: Axes
    strides: Axes
    dilations: Axes
    pads_begin: Axes
    pads_end: Axes
    groups: int = 1

    @property
    def reach(self) -> Axes:
        """Distance from the first tap to the last."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def shrinkage(self) -> Axes:
        """How much shorter than the input an output of stride 1 is."""
        pads = zip(self.reach, self.pads_begin, self.pads_end, strict=True)
        return tuple(reach - begin - end for reach, begin, end in pads)

    def offsets(self, axis: int) -> Axes:
        """Input positions that the taps of an axis read for output 0; negative in the padding."""
        step, pad = self.dilations[axis], self.pads_begin[axis]
        return tuple(i * step - pad for i in range(self.kernel[axis]))

    def centre_tap(self) -> tuple[ConvGeometry, Axes, Axes]:
        """The 1x1 that reads what the centre tap reads, and how much input to crop before it.

        Returns:
            Geometry without negative pads; elements to crop at the begin and the end of each axis.
            Kernel sizes must be odd.
        """
        begin = [p - r // 2 for p, r in zip(self.pads_begin, self.reach, strict=True)]
        end = [p - r // 2 for p, r in zip(self.pads_end, self.reach, strict=True)]
        ones = (1,) * len(self.kernel)
        point = replace(
            self,
            kernel=ones,
            dilations=ones,
            pads_begin=tuple(max(p, 0) for p in begin),
            pads_end=tuple(max(p, 0) for p in end),
        )
        return point, tuple(max(-p, 0) for p in begin), tuple(max(-p, 0) for p in end)

    def attributes(self) -> dict[str, Any]:
        """ONNX attributes, all of them explicit."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [*self.pads_begin, *self.pads_end],
            "group": self.groups,
        }


def conv_geometry(node: ir.Node, weight_shape: Sequence[int]) -> ConvGeometry | str:
    """Geometry of a Conv node, or the reason why it cannot be known.

    Args:
        weight_shape: ``[out, in/groups, *kernel]``.
    """
    kernel = tuple(int(size) for size in weight_shape[2:])
    ones = (1,) * len(kernel)
    strides = tuple(attribute(node, "strides", ones))
    dilations = tuple(attribute(node, "dilations", ones))
    groups = int(attribute(node, "group", 1))
    zeros = (0,) * len(kernel)
    geometry = ConvGeometry(kernel, strides, dilations, zeros, zeros, groups)
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    if auto_pad == "VALID":
        return geometry
    if auto_pad == "NOTSET":
        pads = tuple(attribute(node, "pads", 2 * zeros))
        half = len(kernel)
        return replace(geometry, pads_begin=pads[:half], pads_end=pads[half:])
    return _same_padded(geometry, _spatial_sizes(node, len(kernel)), auto_pad)


def _same_padded(
    geometry: ConvGeometry, lengths: Sequence[int | None], auto_pad: str
) -> ConvGeometry | str:
    """SAME_UPPER or SAME_LOWER: ceil(length / stride) outputs, the odd zero last or first."""
    small, large = [], []
    for length, stride, reach in zip(lengths, geometry.strides, geometry.reach, strict=True):
        if length is None and stride > 1:
            return f"auto_pad={auto_pad} with stride {stride} on an axis of unknown size"
        # distance from the last output's first tap to the last element; 0 for stride 1
        left_over = 0 if length is None else (length - 1) % stride
        total = max(reach - left_over, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    first, last = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return replace(geometry, pads_begin=tuple(first), pads_end=tuple(last))


def _spatial_sizes(node: ir.Node, count: int) -> list[int | None]:
    value = node.inputs[0]
    if value is None or value.shape is None or len(value.shape) != count + 2:
        return [None] * count
    return [size if isinstance(size, int) else None for size in list(value.shape)[2:]]
