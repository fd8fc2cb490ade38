"""The arithmetic of Coarse & Fine Weight Splitting (CFWS; Yang et al., arXiv 2312.10588).

Re-parameterised kernels carry a few huge centre taps (the folded 1x1 and identity branches) above
small neighbours; one grid for both loses the neighbours. CFWS writes the kernel W as a sum of two
integer grids. With Q = 2^(bits-1) - 1, C the centre tap and N the other taps:

    coarse:  s_c = max|C| / Q       Qc = round(C / s_c)     a 1x1 kernel, integer by construction
    fine:    F = N + (C - s_c Qc)   s_f = max|F| / Q        a kernel of the original size

so W = s_c Qc + F exactly, and quantizing F with step s_f gives every tap an error of s_f / 2.
``extract_centre=False`` expands the whole kernel instead (two full kernels, more exact, twice the
cost). ``power_of_two_link`` makes s_c / s_f = 2^k, so that both int32 accumulators join by a shift:
A = (Ac << k) + Af. Rounding is half to even, as ONNX's QuantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.scales.methods import rounded_up_to_half
from exporters.errors import UserError

Granularity = Literal["tensor", "channel"]
Floats = NDArray[np.float32]
Integers = NDArray[np.int8]

_SMALLEST_STEP = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class SplitOptions:
    """How to split a kernel.

    Attributes:
        coarse: one coarse step for each output channel, or one for the tensor.
        fine: the same for the fine step.
        bits: width of both integer parts.
        extract_centre: coarse is the centre tap alone, a 1x1 kernel; else the whole kernel.
        power_of_two_link: widen the fine step so that s_c / s_f is a power of two.
        half: widen both steps to FP16 numbers, for files whose scales are FP16.
    """

    coarse: Granularity = "channel"
    fine: Granularity = "channel"
    bits: int = 8
    extract_centre: bool = True
    power_of_two_link: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UserError(
                f"weights of {self.bits} bits cannot be split", fix="Choose 2 to 8 bits"
            )


@dataclass(frozen=True)
class WeightSplit:
    """A kernel as coarse integers plus a fine remainder; see the module docstring.

    Attributes:
        coarse_q: int8 ``[out, in/groups, 1, …]`` (or the kernel's shape without extraction).
        coarse_scale: float32, rank 0 per tensor or ``[out]`` per channel.
        fine: float32, the kernel's shape; what is left after the coarse part.
        fine_scale: as ``coarse_scale``.
        shift: int64, shaped as the finer of both scales: k of ``s_c = s_f * 2**k``; None unless
            the link was asked for.
        bits: of both parts.
    """

    coarse_q: Integers
    coarse_scale: Floats
    fine: Floats
    fine_scale: Floats
    shift: NDArray[np.int64] | None
    bits: int

    @property
    def coarse(self) -> Floats:
        """float32 of ``coarse_q``'s shape: exactly what DequantizeLinear makes of it."""
        return self.coarse_q * _aligned(self.coarse_scale, self.coarse_q.ndim)

    @property
    def fine_q(self) -> Integers:
        """int8 of ``fine``'s shape: exactly what QuantizeLinear makes of it."""
        return quantize_symmetric(self.fine, self.fine_scale, self.bits)

    @property
    def recombined(self) -> Floats:
        """float32 of the kernel's shape: the weights that run after both parts are quantized."""
        return _embedded(self.coarse, self.fine.shape) + self.fine_q * _aligned(
            self.fine_scale, self.fine.ndim
        )


def split_weight(weight: NDArray[Any], options: SplitOptions | None = None) -> WeightSplit:
    """Split ``weight`` ``[out, in/groups, *kernel]`` into coarse integers and a fine remainder.

    Raises:
        UserError: non-finite weights, or extraction asked of a kernel that has no centre tap or
            nothing but a centre tap.
    """
    options = options or SplitOptions()
    weight = np.asarray(weight, dtype=np.float32)
    if not np.isfinite(weight).all():
        raise UserError("the weights hold NaN or infinity", fix="Check the checkpoint")
    if options.extract_centre:
        reason = no_centre_reason(weight.shape)
        if reason:
            raise UserError(f"no centre tap to extract: {reason}")
        source = weight[centre_index(weight.shape)]
    else:
        source = weight
    coarse_scale = symmetric_scale(source, options.coarse, options.bits)
    if options.power_of_two_link:
        coarse_scale = np.maximum(coarse_scale, _linkable_step(weight, options))
    if options.half:
        coarse_scale = _half(coarse_scale)
    coarse_q = quantize_symmetric(source, coarse_scale, options.bits)
    coarse = coarse_q * _aligned(coarse_scale, coarse_q.ndim)
    fine = weight - _embedded(coarse, weight.shape)
    fine_scale = symmetric_scale(fine, options.fine, options.bits)
    shift = None
    if options.half:
        fine_scale = _half(fine_scale)
    if options.power_of_two_link:
        fine_scale, shift = _linked(coarse_scale, fine_scale, options)
    return WeightSplit(coarse_q, coarse_scale, fine, fine_scale, shift, options.bits)


def no_centre_reason(shape: tuple[int, ...]) -> str:
    """Why a kernel of this weight shape has no centre to extract; empty if it has one."""
    kernel = shape[2:]
    name = "x".join(map(str, kernel)) or "no spatial axis"
    if any(size % 2 == 0 for size in kernel):
        return f"the kernel is {name}, an even size has no centre tap"
    if all(size == 1 for size in kernel):
        return f"the kernel is {name}, the centre is all of it"
    return ""


def centre_index(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices that keep the centre tap of every spatial axis, as axes of size 1."""
    return (slice(None), slice(None), *(slice(k // 2, k // 2 + 1) for k in shape[2:]))


def symmetric_scale(weight: NDArray[Any], granularity: Granularity, bits: int) -> Floats:
    """Step that maps the largest magnitude to the largest integer, float32, rank 0 or ``[out]``.

    A channel of zeros takes the widest step of the tensor (1 if all are zero): its integers are
    zero with any step, and a bias quantized at this step times the input's stays precise.
    """
    magnitude = np.abs(np.asarray(weight, dtype=np.float32))
    axes = None if granularity == "tensor" else tuple(range(1, magnitude.ndim))
    scale = np.asarray(np.max(magnitude, axis=axes) / np.float32(_largest(bits)), dtype=np.float32)
    widest = scale.max() if scale.max() >= _SMALLEST_STEP else np.float32(1.0)
    return np.asarray(np.where(scale >= _SMALLEST_STEP, scale, widest), dtype=np.float32)


def quantize_symmetric(weight: NDArray[Any], scale: Floats, bits: int) -> Integers:
    """int8 of ``weight``'s shape, half to even, clamped to ±(2^(bits-1) - 1)."""
    q = np.rint(np.asarray(weight, dtype=np.float32) / _aligned(scale, np.ndim(weight)))
    return np.asarray(np.clip(q, -_largest(bits), _largest(bits)), dtype=np.int8)


def join_accumulators(
    coarse: NDArray[np.int32], fine: NDArray[np.int32], shift: NDArray[np.int64]
) -> NDArray[np.int32]:
    """One int32 accumulator of a linked split: ``(coarse << k) + fine``.

    Both are ``[batch, out, …]``; ``shift`` has rank 0 or is ``[out]``. Where k is negative (the
    fine part is the wider one) the fine accumulator is shifted instead, and the sum counts in
    units of the coarse step: `accumulator_scale` names the unit.

    Raises:
        UserError: the sum does not fit 32 bits.
    """
    k = shift if shift.ndim == 0 else shift.reshape(-1, *[1] * (coarse.ndim - 2))
    left, right = np.maximum(k, 0), np.maximum(-k, 0)
    joined = (coarse.astype(np.int64) << left) + (fine.astype(np.int64) << right)
    if joined.size and np.abs(joined).max() > np.iinfo(np.int32).max:
        raise UserError("the joined accumulator exceeds 32 bits", fix="Split without the link")
    return joined.astype(np.int32)


def accumulator_scale(split: WeightSplit) -> Floats:
    """Unit of a joined accumulator, over the input's scale: the smaller of both steps."""
    return np.minimum(split.coarse_scale, split.fine_scale)


def range_ratio(weight: NDArray[Any], bits: int = 8) -> float:
    """How many times finer the widest fine step is than a plain one: max|W| / max(max|N|, g/2).

    A hint about the weights only. Whether a split pays shows on the layer's output.
    """
    weight = np.abs(np.asarray(weight, dtype=np.float64))
    neighbours = weight.copy()
    index = centre_index(weight.shape)
    neighbours[index] = 0
    remainder = weight[index].max() / _largest(bits) / 2
    return float(weight.max() / max(neighbours.max(), remainder, _SMALLEST_STEP))


def _linkable_step(weight: Floats, options: SplitOptions) -> Floats:
    """Coarse steps below this would need a shift of more than ``bits`` to reach the fine step."""
    neighbours = weight.copy()
    neighbours[centre_index(weight.shape)] = 0
    scale = symmetric_scale(neighbours, options.coarse, options.bits)
    return np.asarray(scale / 2**options.bits, dtype=np.float32)


def _linked(
    coarse: Floats, fine: Floats, options: SplitOptions
) -> tuple[Floats, NDArray[np.int64]]:
    """The smallest fine steps, none below ``fine``, that are ``coarse`` over a power of two.

    k stays within ±bits, so ``(Qc << k) + Qf`` fits an integer of twice the width.
    """
    if options.fine == "tensor" and options.coarse == "channel":
        raise UserError(
            "a power-of-two link cannot join coarse steps per channel with one fine step",
            fix="Take the fine steps per channel too",
        )
    # s_c / 2^k >= fine  <=>  k <= log2(s_c / fine), whose floor frexp gives exactly
    exponent = np.frexp(coarse.astype(np.float64) / fine)[1]
    shift = np.asarray(np.minimum(exponent - 1, options.bits), dtype=np.int64)
    return np.asarray(np.ldexp(coarse, -shift), dtype=np.float32), shift


def _half(scale: Floats) -> Floats:
    return np.asarray(rounded_up_to_half(scale.astype(np.float64)), dtype=np.float32)


def _embedded(kernel: Floats, shape: tuple[int, ...]) -> Floats:
    """``kernel`` at the centre of zeros of ``shape``; ``kernel`` itself where sizes agree."""
    if kernel.shape == shape:
        return kernel
    whole = np.zeros(shape, dtype=np.float32)
    whole[centre_index(shape)] = kernel
    return whole


def _aligned(scale: Floats, ndim: int) -> Floats:
    return scale.reshape(-1, *[1] * (ndim - 1)) if scale.ndim else scale


def _largest(bits: int) -> int:
    return int(2 ** (bits - 1) - 1)
