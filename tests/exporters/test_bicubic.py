"""Against Pillow itself, and the bounds that make float32 exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporters.bicubic import PRECISION_BITS, Band, band, coefficients, split
from exporters.errors import UserError

SIZES = st.integers(1, 300)


def by_pillow(rows: NDArray[np.uint8], outputs: int) -> NDArray[np.uint8]:
    """One pass along rows; the height stays, so Pillow does no other."""
    from PIL import Image

    image = Image.fromarray(rows)
    resized: NDArray[np.uint8] = np.asarray(
        image.resize((outputs, rows.shape[0]), Image.Resampling.BICUBIC)
    )
    return resized


def by_integers(rows: NDArray[np.uint8], outputs: int) -> NDArray[np.uint8]:
    """The formula of the module's docstring in 64-bit integers."""
    sums = rows.astype(np.int64) @ coefficients(rows.shape[1], outputs).T
    pixels = (sums + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS
    return np.clip(pixels, 0, 255).astype(np.uint8)


def by_band(rows: NDArray[np.uint8], taps: Band) -> NDArray[np.uint8]:
    """The same in float32 alone, by blocks and digits."""
    found = []
    for start, matrix in zip(taps.starts, taps.matrices, strict=True):
        product = rows[:, start : start + taps.window].astype(np.float32) @ matrix
        highest, *lower = np.split(product, taps.digits, axis=1)
        carry = np.zeros_like(highest)
        for digit in reversed(lower):
            carry = np.floor((digit + carry) * np.float32(2.0**-taps.bits))
        shifted = (highest + (carry + np.float32(taps.half))) * np.float32(1 / taps.divisor)
        assert shifted.dtype == np.float32
        found.append(np.clip(np.floor(shifted), 0, 255))
    return np.concatenate(found, axis=1).astype(np.uint8)


def pictures(width: int, seed: int) -> NDArray[np.uint8]:
    """Noise, and black and white, whose sums reach furthest beyond 0 and 255."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (3, width), dtype=np.uint8)
    return np.concatenate([noise, 255 * random.integers(0, 2, (3, width), dtype=np.uint8)])


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
@example(1600, 704, 0)
@example(900, 396, 0)
@example(3840, 704, 0)
@example(8000, 176, 0)  # three digits
@example(1, 300, 0)
@example(300, 1, 0)
def test_integers_and_float32_equal_pillow(inputs: int, outputs: int, seed: int) -> None:
    rows = pictures(inputs, seed)
    expected = rows if inputs == outputs else by_pillow(rows, outputs)
    np.testing.assert_array_equal(by_integers(rows, outputs), expected)
    np.testing.assert_array_equal(by_band(rows, band(coefficients(inputs, outputs))), expected)


@given(SIZES, SIZES)
@example(1600, 704)
@example(6000, 704)
def test_no_sum_leaves_what_float32_counts(inputs: int, outputs: int) -> None:
    """255 |d| summed over a window bounds every partial sum, in whatever order it is added."""
    taps = band(coefficients(inputs, outputs))
    largest = 255 * np.abs(taps.matrices.astype(np.int64)).sum(axis=1).max()
    assert largest + 255 * 2**taps.bits < 2**24, "carries included"
    assert np.abs(taps.matrices).max() <= 2**11, "TF32 has 11 significant bits"


@given(
    st.lists(st.integers(-(2**23) + 1, 2**23 - 1), min_size=1), st.sampled_from([(2, 12), (3, 8)])
)
def test_digits_add_up_again(values: list[int], form: tuple[int, int]) -> None:
    digits, bits = form
    matrix = np.array([values], np.int64)
    parts = split(matrix, digits, bits)
    weights = [1 << (bits * place) for place in reversed(range(digits))]
    np.testing.assert_array_equal(sum(w * p for w, p in zip(weights, parts, strict=True)), matrix)
    for part in parts[1:]:
        assert part.min() >= -(1 << (bits - 1))
        assert part.max() < 1 << (bits - 1)


def test_coefficients_sum_to_one_up_to_their_rounding() -> None:
    matrix = coefficients(1600, 704)
    taps = np.count_nonzero(matrix, axis=1)
    assert taps.max() <= 11
    assert np.all(np.abs(matrix.sum(axis=1) - 2**PRECISION_BITS) <= taps / 2)


def test_blocks_leave_out_most_of_the_matrix() -> None:
    taps = band(coefficients(1600, 704))
    assert (taps.size, len(taps.starts)) == (44, 16)
    assert taps.window < 1600 / 14


def test_a_reduction_beyond_three_digits_is_refused() -> None:
    with pytest.raises(UserError, match="too many for an exact sum in float32") as error:
        band(coefficients(200_000, 16))
    assert error.value.fix == "Resize outside of the network: --input uint8"
