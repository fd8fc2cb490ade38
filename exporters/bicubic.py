"""Pillow's antialiased bicubic resize as constant matrices, so that a graph can do it bit for bit.

Pillow resamples rows, rounds to 8 bits, then resamples columns. Output i of one pass, with
s = in / out, f = max(s, 1), c = (i + 1/2) s and pixels x in (c - 2f, c + 2f), is

    k_ix = cubic((x + 1/2 - c) / f) / sum,   K_ix = round(2^22 k_ix),   round half away from 0
    y_i  = clip(floor((sum_x K_ix p_x + 2^21) / 2^22), 0, 255)

(``Resample.c``: ``precompute_coeffs``, ``normalize_coeffs_8bpc``; cubic has a = -1/2.) Here K is
made by the same double operations in the same order. Pillow 13 resamples columns first where the
height shrinks by more than twice as many pixels as the width, which no camera's picture does that
is less than twice as tall as wide; all versions before go rows first.

**Exact in float32.** K has up to 23 bits and its sums 31, float32 has 24. So K is written in digits
to base 2^b, K = sum_j d_j 2^(b j), the lower ones in [-2^(b-1), 2^(b-1)), and every digit is
multiplied on its own. With D_j = sum_x d_jx p_x and nested floors, floor((u + v) / m) =
floor((u + floor(v)) / m) for whole u and m,

    y = clip(floor((D_1 + 2^9 + floor(D_0 / 2^12)) / 2^10), 0, 255)          two digits, b = 12

in which each D, and each partial sum of it in any order, is a whole number below 2^24: 255 times
the largest row sum of |d_j|, which is checked when the matrices are made. b = 12 does up to 32
pixels for one; beyond that (a reduction by more than 7) three digits with b = 8 do. Digits have at
most 11 bits and pixels 8, so TF32 products are exact too; half precision is not.

**In blocks.** K is a band: 44 neighbouring outputs see some 44 s + 4f pixels of a row. It is cut
into blocks of outputs with their window of pixels: a fourteenth of the whole product at nuScenes'
1600 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError

PRECISION_BITS = 32 - 8 - 2
SUPPORT = 2.0
"""Of the cubic filter, in pixels of the smaller image."""

_DIGITS = ((2, 12), (3, 8))
_EXACT = 1 << 24
_BLOCKS = range(48, 15, -1)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Band:
    """One pass of a resize, in blocks.

    Attributes:
        digits, bits: number of digits of a coefficient, and their width.
        size: outputs of a block.
        starts: first input of each block's window.
        matrices: float32 ``[blocks, window, digits * size]``, highest digit first.
    """

    digits: int
    bits: int
    size: int
    starts: tuple[int, ...]
    matrices: NDArray[np.float32]

    @property
    def window(self) -> int:
        return int(self.matrices.shape[1])

    @property
    def half(self) -> float:
        """2^21 in units of the highest digit."""
        return float(1 << (PRECISION_BITS - 1 - self.bits * (self.digits - 1)))

    @property
    def divisor(self) -> float:
        """2^22 in units of the highest digit."""
        return 2.0 * self.half


def coefficients(inputs: int, outputs: int) -> Integers:
    """K of one pass, ``[outputs, inputs]``.

    >>> (coefficients(4, 2)[0] / 2**22).round(4).tolist()
    [0.4587, 0.4587, 0.1198, -0.0372]
    """
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    support = SUPPORT * stretch
    centres = (np.arange(outputs) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), inputs)
    taps = first[:, None] + np.arange(int((last - first).max()))
    inside = taps < last[:, None]
    weights = np.where(inside, _cubic((taps - centres[:, None] + 0.5) * (1.0 / stretch)), 0.0)
    sums = np.cumsum(weights, axis=1)[:, -1:]  # one after the other, as Pillow adds
    exact = np.divide(weights, sums, out=weights, where=sums != 0) * (1 << PRECISION_BITS)
    rounded = np.trunc(exact + np.where(exact < 0, -0.5, 0.5)).astype(np.int64)
    found = np.zeros((outputs, inputs), np.int64)
    rows = np.broadcast_to(np.arange(outputs)[:, None], taps.shape)
    found[rows[inside], taps[inside]] = rounded[inside]
    return found


def band(matrix: Integers) -> Band:
    """``matrix``, rows of coefficients, as digits in blocks.

    Raises:
        UserError: a row has so many coefficients that float32 could not add them exactly.
    """
    digits, bits = _width(matrix)
    outputs, inputs = matrix.shape
    size = next((n for n in _BLOCKS if outputs % n == 0), outputs)
    blocks = [matrix[start : start + size] for start in range(0, outputs, size)]
    spans = [_span(block) for block in blocks]
    window = max(stop - start for start, stop in spans)
    starts = tuple(min(start, inputs - window) for start, _ in spans)
    matrices = [
        np.concatenate(split(block[:, start : start + window], digits, bits)).T
        for block, start in zip(blocks, starts, strict=True)
    ]
    return Band(digits, bits, size, starts, np.stack(matrices).astype(np.float32))


def split(matrix: Integers, digits: int, bits: int) -> list[Integers]:
    """Digits to base ``2 ** bits``, highest first; the others in [-half, half) of the base."""
    found: list[Integers] = []
    half = 1 << (bits - 1)
    for _ in range(digits - 1):
        low = ((matrix + half) & ((1 << bits) - 1)) - half
        found.insert(0, low)
        matrix = (matrix - low) >> bits
    return [matrix, *found]


def _width(matrix: Integers) -> tuple[int, int]:
    """The fewest digits whose sums float32 holds exactly, carries and rounding included."""
    for digits, bits in _DIGITS:
        sums = [np.abs(part).sum(axis=1).max() for part in split(matrix, digits, bits)]
        if 255 * max(sums) + _EXACT // 256 < _EXACT:
            return digits, bits
    raise UserError(
        f"{matrix.shape[1]} pixels become {matrix.shape[0]}: too many for an exact sum in float32",
        fix="Resize outside of the network: --input uint8",
    )


def _span(rows: Integers) -> tuple[int, int]:
    """First input that any of ``rows`` uses, and the one behind the last."""
    used = np.flatnonzero(rows.any(axis=0))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)


def _cubic(x: Floats) -> Floats:
    """Keys' cubic with a = -1/2, evaluated as Pillow does."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    values: Floats = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return values
