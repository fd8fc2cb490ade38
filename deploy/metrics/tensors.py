"""How far a candidate's float tensor is from the reference's, streamed over samples.

For reference r and candidate c, sums over all elements of all samples, in float64:

    SQNR   = 10 log10( sum r^2 / sum (r - c)^2 )      dB; +inf where c equals r everywhere
    cosine = sum r c / sqrt( sum r^2  sum c^2 )       1 where both are zero, 0 where one is
    max    = max |r - c|

Elements that are not finite on either side cannot enter a sum. They are left out of it and counted:
``mismatched`` counts those where the two sides differ (NaN against a number, inf against -inf), and
any of them means that the candidate is broken, whatever the SQNR of the rest says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BLOCK = 1 << 17  # elements: some float64 arrays of it fit into a core's cache


@dataclass(frozen=True)
class TensorError:
    """Error of a tensor, or of one part of it.

    Attributes:
        sqnr_db: decibels; inf for an exact copy, -inf where noise stands against silence, NaN
            where no element was finite on both sides.
        cosine: of the two as flat vectors; NaN as above.
        max_abs: largest absolute difference, in the tensor's own unit; NaN as above.
        count: elements compared, finite on both sides.
        mismatched: elements that are not finite and not alike.
    """

    sqnr_db: float
    cosine: float
    max_abs: float
    count: int
    mismatched: int = 0


class ErrorAccumulator:
    """Streaming error of one tensor, whole or along one axis.

    Args:
        axis: keep one error for each index of this axis (a class channel); None for the whole.
    """

    def __init__(self, axis: int | None = None) -> None:
        self._axis = axis
        self._sums: Floats | None = None  # [5, parts]: signal, candidate, dot, noise, max
        self._counts: NDArray[np.int64] | None = None  # [2, parts]: compared, mismatched

    def update(self, reference: Array, candidate: Array) -> None:
        """Add one sample.

        Args:
            reference: any shape, any numeric dtype.
            candidate: the same shape.

        Raises:
            UserError: the shapes differ.
        """
        if reference.shape != candidate.shape:
            raise UserError(
                f"the outputs have shapes {list(reference.shape)} and {list(candidate.shape)}",
                fix="Compare two files of the same variant and geometry",
            )
        pair = zip(self._parts(reference), self._parts(candidate), strict=True)
        rows = [_sums(r, c) for r, c in pair]
        self._add(np.stack([s for s, _ in rows], axis=1), np.stack([n for _, n in rows], axis=1))

    def merge(self, other: ErrorAccumulator) -> None:
        """Add what another one of the same axis has seen."""
        if other._sums is not None and other._counts is not None:
            self._add(other._sums.copy(), other._counts.copy())

    def _parts(self, array: Array) -> Array:
        """``array`` as ``[parts, elements]``."""
        if self._axis is None:
            return array.reshape(1, -1)
        first = np.moveaxis(array, self._axis, 0)
        return first.reshape(first.shape[0], -1)

    def _add(self, sums: Floats, counts: NDArray[np.int64]) -> None:
        if self._sums is None or self._counts is None:
            self._sums, self._counts = sums, counts
            return
        self._sums[:4] += sums[:4]
        self._sums[4] = np.maximum(self._sums[4], sums[4])
        self._counts += counts

    @property
    def sums(self) -> Floats:
        """``[4]`` over everything seen: signal, candidate's energy, dot product, noise."""
        return np.zeros(4) if self._sums is None else np.asarray(self._sums[:4].sum(axis=1))

    def result(self) -> TensorError:
        """The error over everything seen, all parts together."""
        if self._sums is None or self._counts is None:
            return _error(np.zeros(5), np.zeros(2, np.int64))
        total = self._sums.sum(axis=1)
        total[4] = self._sums[4].max(initial=0.0)
        return _error(total, self._counts.sum(axis=1))

    def parts(self) -> list[TensorError]:
        """One error for each index of the axis; a single one where there is no axis."""
        if self._sums is None or self._counts is None:
            return []
        return [_error(s, n) for s, n in zip(self._sums.T, self._counts.T, strict=True)]


def _sums(reference: Array, candidate: Array) -> tuple[Floats, NDArray[np.int64]]:
    """Sums and counts over two flat arrays, in blocks: float64 copies of a whole one are large."""
    total, counts = np.zeros(5), np.zeros(2, np.int64)
    for start in range(0, reference.size, _BLOCK):
        r, c = (a[start : start + _BLOCK].astype(np.float64) for a in (reference, candidate))
        with np.errstate(invalid="ignore"):
            difference = r - c
        noise = _dot(difference, difference)
        if not np.isfinite(noise):  # some element is not: leave those out, and count
            r, c, mismatched = _finite_pairs(r, c)
            difference = r - c
            noise = _dot(difference, difference)
            counts[1] += mismatched
        total[:4] += _dot(r, r), _dot(c, c), _dot(r, c), noise
        total[4] = max(total[4], difference.max(initial=0.0), -difference.min(initial=0.0))
        counts[0] += r.size
    return total, counts


def _dot(a: Floats, b: Floats) -> np.float64:
    # einsum stays in this thread; BLAS would start several for a block that one does in 50 us
    product: np.float64 = np.einsum("i,i->", a, b)
    return product


def _finite_pairs(r: Floats, c: Floats) -> tuple[Floats, Floats, int]:
    finite = np.isfinite(r) & np.isfinite(c)
    alike = finite | (r == c) | (np.isnan(r) & np.isnan(c))
    return r[finite], c[finite], int((~alike).sum())


def compare_tensors(reference: Array, candidate: Array) -> TensorError:
    """The error of one pair of tensors."""
    accumulator = ErrorAccumulator()
    accumulator.update(reference, candidate)
    return accumulator.result()


def _error(sums: Floats, counts: NDArray[np.int64]) -> TensorError:
    signal, other, dot, noise, max_abs = (float(value) for value in sums)
    compared, mismatched = (int(value) for value in counts)
    if compared == 0:
        return TensorError(math.nan, math.nan, math.nan, 0, mismatched)
    return TensorError(
        sqnr_db=_decibels(signal, noise),
        cosine=_cosine(signal, other, dot),
        max_abs=max_abs,
        count=compared,
        mismatched=mismatched,
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _cosine(signal: float, other: float, dot: float) -> float:
    if signal == 0.0 or other == 0.0:
        return 1.0 if signal == other else 0.0
    # two roots, because the product of two sums of squares can overflow
    return max(-1.0, min(1.0, dot / math.sqrt(signal) / math.sqrt(other)))
