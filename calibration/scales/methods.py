"""From what was seen to a range, from a range to a scale.

A *scale method* looks at one tensor's statistics and says which range is worth representing; values
beyond are clipped. An *integer form* turns a range into scale and zero point:

    int8 symmetric (TensorRT):       scale = max|range| / 127    zero point = 0
    uint8 asymmetric (ONNX Runtime): scale = (high - low) / 255  zero point = round(-low / scale)

The range always contains zero, which both forms represent exactly: padding and ReLU rely on it.
Methods register under a name; a new one is a class with ``range_of``, nothing else changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.observing.histogram import BINS, Histogram
from calibration.observing.statistics import TensorStatistics
from calibration.registry import Registry
from calibration.scales.entropy import entropy_threshold
from calibration.scales.klr import klr_threshold, levels_of
from calibration.scales.squared_error import SquaredErrors

SILENT_SCALE = 2.0**-14
"""Of a tensor that was zero on every sample: small (the bias grid is a multiple of it), and a
normal number in FP16."""


class IntegerForm(str, Enum):
    """What an activation becomes."""

    INT8_SYMMETRIC = "int8 symmetric"
    UINT8_ASYMMETRIC = "uint8 asymmetric"

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        return np.int8 if self is IntegerForm.INT8_SYMMETRIC else np.uint8


@dataclass(frozen=True)
class Range:
    """``[low, high]`` of the values that are represented, zero included."""

    low: float
    high: float

    @classmethod
    def around_zero(cls, low: float, high: float) -> Range:
        return cls(min(low, 0.0), max(high, 0.0))


@dataclass(frozen=True)
class Scale:
    """``x = (q - zero_point) * scale``; ``scale`` is a float32 number."""

    scale: float
    zero_point: int
    form: IntegerForm

    @classmethod
    def of(cls, bounds: Range, form: IntegerForm, *, half: bool = False) -> Scale:
        """The scale that represents ``bounds``; ``half`` makes it an FP16 number, rounded up."""
        if form is IntegerForm.INT8_SYMMETRIC:
            scale = max(abs(bounds.low), abs(bounds.high)) / 127
        else:
            scale = (bounds.high - bounds.low) / 255
        scale = scale if scale > np.finfo(np.float32).tiny else SILENT_SCALE
        if half:
            scale = float(rounded_up_to_half(np.asarray(scale)))
        scale = float(np.float32(scale))
        zero = 0 if form is IntegerForm.INT8_SYMMETRIC else int(np.rint(-bounds.low / scale))
        return cls(scale, min(max(zero, 0), 255), form)


def rounded_up_to_half(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """FP16 numbers not below ``scales``, as float64, so that the range is never narrowed.

    Below 2**-24, the smallest FP16 number, that number is returned.
    """
    half = np.asarray(scales).astype(np.float16)
    half = np.where(half < scales, np.nextafter(half, np.float16(np.inf)), half)
    smallest = np.finfo(np.float16).smallest_subnormal
    return np.asarray(np.maximum(half, smallest), dtype=np.float64)


class ScaleMethod(Protocol):
    """Chooses the range of one tensor, or of several that share a scale."""

    @property
    def needs_histogram(self) -> bool: ...

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range: ...


SCALES: Registry[ScaleMethod] = Registry("scale method")


class MinMax:
    """Everything that was seen: no clipping, and one outlier costs all others their resolution."""

    needs_histogram = False

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range:  # noqa: ARG002
        return Range.around_zero(seen.minimum, seen.maximum)


@dataclass(frozen=True)
class Percentile:
    """All but the largest ``100 - percent`` percent.

    Of the magnitudes for a symmetric form; half of it on either side for an asymmetric one, or all
    of it at the top of a tensor that is never negative.
    """

    percent: float = 99.99
    needs_histogram = True

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range:
        histogram = _histogram(seen)
        outside = 1 - self.percent / 100
        if form is IntegerForm.INT8_SYMMETRIC:
            top = _quantile(histogram.magnitudes, 1 - outside) * histogram.width
            return _within(seen, -top, top)
        if seen.minimum >= 0:
            top = _quantile(histogram.magnitudes, 1 - outside) * histogram.width
            return _within(seen, 0.0, top)
        low, high = (
            (_quantile(histogram.counts, q) - len(histogram.counts) / 2) * histogram.width
            for q in (outside / 2, 1 - outside / 2)
        )
        return _within(seen, low, high)


@dataclass(frozen=True)
class MeanSquaredError:
    """The range with the least expected squared error of rounding and clipping together.

    ``sum over bins of count * (Q(centre) - centre)^2`` is searched over ``candidates`` fractions of
    the full range; an asymmetric range is searched one side at a time, twice.
    """

    candidates: int = 100
    smallest: float = 0.02
    needs_histogram = True

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range:
        histogram = _histogram(seen)
        full = Range.around_zero(seen.minimum, seen.maximum)
        shrink = np.linspace(1.0, self.smallest, self.candidates)
        if form is IntegerForm.INT8_SYMMETRIC:
            errors = SquaredErrors(histogram.magnitudes, histogram.width, 0)
            top = max(-full.low, full.high)
            best = _best(errors, [Range(-top * s, top * s) for s in shrink], form)
            return _within(seen, best.low, best.high)
        errors = SquaredErrors(histogram.counts, histogram.width, BINS)
        found = full
        sides = [side for side in ("high", "low") if getattr(full, side)]
        for _ in sides:  # twice round where one side's best depends on the other's
            for side in sides:
                ranges = [_replaced(found, side, getattr(full, side) * s) for s in shrink]
                found = _best(errors, ranges, form)
        return found


class Entropy:
    """TensorRT's calibration, as its published toolkit defines it: see ``scales.entropy``."""

    needs_histogram = True

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range:
        histogram = _histogram(seen)
        unsigned = form is IntegerForm.UINT8_ASYMMETRIC and seen.minimum >= 0
        kept = entropy_threshold(histogram.magnitudes, levels=256 if unsigned else 128)
        return _within(seen, -kept * histogram.width, kept * histogram.width)


class KlR:
    """Divergence with a floor on coverage, for tensors after ReLU: see ``scales.klr``."""

    needs_histogram = True

    def range_of(self, seen: TensorStatistics, form: IntegerForm) -> Range:
        histogram = _histogram(seen)
        signed = form is IntegerForm.INT8_SYMMETRIC or seen.minimum < 0
        counts = histogram.magnitudes.copy()
        counts[0] = max(counts[0] - histogram.zeros, 0.0)  # zero is exact with any scale
        largest = max(seen.maximum, -seen.minimum)
        counts = counts[: max(math.ceil(largest / histogram.width), 1)]
        top = len(counts) * histogram.width
        threshold = klr_threshold(counts, top, levels_of(8, signed=signed))
        return _within(seen, -threshold, threshold)


SCALES.add("minmax", MinMax())
SCALES.add("percentile", Percentile())
SCALES.add("mse", MeanSquaredError())
SCALES.add("entropy", Entropy())
SCALES.add("kl-r", KlR())
SCALES.add("auto", MeanSquaredError())  # where ``calibration.scales.auto`` has nothing to measure


def _histogram(seen: TensorStatistics) -> Histogram:
    if seen.histogram is None:
        raise ValueError("this scale method needs statistics with histograms")
    return seen.histogram


def _within(seen: TensorStatistics, low: float, high: float) -> Range:
    """Clip to what was really seen: bin edges reach beyond."""
    return Range.around_zero(max(low, seen.minimum), min(high, seen.maximum))


def _quantile(counts: NDArray[np.float64], share: float) -> float:
    """Position, in bins, below which ``share`` of the mass lies; linear within a bin."""
    cumulative = np.concatenate(([0.0], np.cumsum(counts)))
    return float(np.interp(share * cumulative[-1], cumulative, np.arange(len(cumulative))))


def expected_error(seen: TensorStatistics, scale: Scale) -> float:
    """Sum over all values of the squared error that ``scale`` costs the tensor itself."""
    histogram = _histogram(seen)
    counts = histogram.counts.copy()
    counts[BINS] -= histogram.zeros  # zero is exact with any scale
    error = _errors(SquaredErrors(counts, histogram.width, BINS), [scale])[0]
    return float(error) * seen.elements / max(histogram.total, 1.0)


def _best(errors: SquaredErrors, ranges: list[Range], form: IntegerForm) -> Range:
    return ranges[int(np.argmin(_errors(errors, [Scale.of(r, form) for r in ranges])))]


def _errors(errors: SquaredErrors, scales: list[Scale]) -> NDArray[np.float64]:
    limits = np.iinfo(scales[0].form.dtype)
    steps, zero_points = [s.scale for s in scales], [s.zero_point for s in scales]
    return errors.of(steps, zero_points, limits.min, limits.max)


def _replaced(bounds: Range, side: str, value: float) -> Range:
    return Range(bounds.low, value) if side == "high" else Range(value, bounds.high)
