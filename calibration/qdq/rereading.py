"""Multiplying and adding one number costs an integer tensor nothing: it is read in another way.

With x = s (q - z), the tensor ``y = a x + b`` has the same integers q as x:

    y = a s (q - z) + b = s' (q - z')      with  s' = a s    z' = z - b / s'

So where x and y are both quantized and a > 0, no kernel runs for y: a second DequantizeLinear
reads the bytes of x with s' and z'. The scale is chosen for y, whose readers suffer from it, and x
follows. z' is rounded; what y is then off by, half a step at most and the same everywhere, is made
up for in the biases of the convolutions that read y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.affine import affine_of
from calibration.graph.queries import epilogue_of
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Rereading:
    """``gain * source + shift``, gain > 0."""

    source: ir.Value
    gain: float
    shift: float

    def scale_of_source(self, scale: Scale) -> Scale | None:
        """Of the source, where the result has ``scale``; None if its zero point is no uint8."""
        zero = scale.zero_point + round(self.shift / scale.scale)
        info = np.iinfo(scale.form.dtype)
        if not info.min <= zero <= info.max:
            return None
        return Scale(float(np.float32(scale.scale / self.gain)), zero, scale.form)

    def off_by(self, source: Scale, scale: Scale) -> float:
        """True result less what the integers read as, the same for every integer."""
        return self.shift - scale.scale * (source.zero_point - scale.zero_point)


def rereading_of(node: ir.Node) -> Rereading | None:
    """What ``node`` computes, if it multiplies and adds one number each."""
    found = affine_of(node)
    if found is None or node.op_type == "Identity" or epilogue_of(node) is not None:
        return None
    slot, affine = found
    source = node.inputs[slot]
    if source is None or not affine.is_uniform or not float(affine.gain) > 0:
        return None
    return Rereading(source, float(affine.gain), float(affine.shift))
