"""Few bits imitated in float, as the integer decoder has them, with gradients straight through.

    rows      q = clip(round(x / s), -Q, Q),   s = max|x| parts / steps    one s a token (and head)
    columns   q = clip(round(w / s), -Q, Q),   s = c max|w| / Q            c in (0, 1] is learned
              q = w / s + e                    e of GPTQ, see `calibration.fsbr.held`

round has the gradient of the identity (straight-through estimator, arXiv:1308.3432); s is part of
the graph, so that factors and c learn through it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from exporters.illm.placing import Bits
from exporters.illm.weights import LEVELS, row_rounding
from exporters.ops.quantize import RowRounding

_LEAST_PEAK = 1e-8


@dataclass(frozen=True)
class Levels:
    """Steps on either side of zero; None leaves a place in float.

    Attributes:
        weights: of the four matrices' columns.
        activations: of rows before each matrix, and of queries, keys and values.
        swiglu: of gate and up inside the gated activation.
    """

    weights: int | None = None
    activations: RowRounding | None = None
    swiglu: RowRounding | None = None

    @classmethod
    def of(cls, bits: Bits, swiglu_bits: int | None = None, *, mixed: bool = False) -> Levels:
        """As the integer decoder has them; ``mixed``: in the rotated basis."""
        swiglu = None if swiglu_bits is None else RowRounding.whole(LEVELS[swiglu_bits])
        return cls(LEVELS[bits.weights], row_rounding(bits.activations, mixed=mixed), swiglu)


def round_rows(x: Tensor, rounding: RowRounding | None) -> Tensor:
    """``x`` ``[..., n]`` with a scale for each row; itself where ``rounding`` is None."""
    if rounding is None:
        return x
    peak = x.abs().amax(-1, keepdim=True).clamp_min(_LEAST_PEAK)
    scale = peak * rounding.parts / rounding.steps
    steps = _rounded(x / scale)
    if rounding.cuts:
        steps = steps.clamp(-rounding.levels, rounding.levels)
    return steps * scale


def round_columns(
    weight: Tensor, levels: int | None, clip: Tensor | None = None, error: Tensor | None = None
) -> Tensor:
    """``weight`` ``[in, out]`` with a scale for each column; itself where ``levels`` is None.

    Args:
        clip: ``[out]``, the share of a column's peak that is the end of its scale.
        error: ``[in, out]``, what rounding does to each weight, in steps; to nearest if None.
    """
    if levels is None:
        return weight
    peak = weight.abs().amax(0)
    if clip is not None:
        peak = peak * clip
    scale = peak.clamp_min(_LEAST_PEAK) / levels
    if error is not None:
        return weight + error * scale
    return _rounded(weight / scale).clamp(-levels, levels) * scale


def _rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()
