"""The split identity, its error bounds and the integer forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.cfws.arithmetic import (
    SplitOptions,
    WeightSplit,
    accumulator_scale,
    centre_index,
    join_accumulators,
    quantize_symmetric,
    range_ratio,
    split_weight,
    symmetric_scale,
)
from exporters.errors import UserError

Weight = NDArray[np.float32]

KERNELS = [(3,), (5,), (3, 3), (1, 3), (5, 3), (3, 3, 3)]

options_of = st.builds(
    SplitOptions,
    coarse=st.sampled_from(["tensor", "channel"]),
    fine=st.sampled_from(["tensor", "channel"]),
    bits=st.sampled_from([4, 5, 6, 8]),
    extract_centre=st.booleans(),
)


def weights(seed: int, kernel: tuple[int, ...], centre: float = 20.0) -> Weight:
    """Re-parameterised: the centre is ``centre`` times larger, channels differ a lot."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(6, 4, *kernel)) * rng.lognormal(0, 2, size=(6, 1, *[1] * len(kernel)))
    w[centre_index(w.shape)] *= centre
    return w.astype(np.float32)


def whole(part: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A coarse kernel at the centre of a full one, float64."""
    out = np.zeros(shape)
    index = (slice(None), slice(None), *(slice(k // 2, k // 2 + 1) for k in shape[2:]))
    out[index if part.shape != shape else ...] = part
    return out


@given(st.integers(0, 2**32 - 1), st.sampled_from(KERNELS), options_of, st.floats(0.1, 1000))
def test_parts_add_up_to_the_weights(
    seed: int, kernel: tuple[int, ...], options: SplitOptions, centre: float
) -> None:
    w = weights(seed, kernel, centre)
    split = split_weight(w, options)
    total = (whole(split.coarse, w.shape) + split.fine).astype(np.float32)
    assert (np.abs(total - w) <= np.spacing(np.abs(w))).all()  # one unit in the last place
    largest = 2 ** (options.bits - 1) - 1
    assert np.abs(split.coarse_q).max() <= largest
    assert np.abs(split.fine_q).max() <= largest


@given(st.integers(0, 2**32 - 1), st.sampled_from(KERNELS), options_of, st.floats(0.1, 1000))
def test_every_tap_is_within_half_a_fine_step(
    seed: int, kernel: tuple[int, ...], options: SplitOptions, centre: float
) -> None:
    w = weights(seed, kernel, centre)
    split = split_weight(w, options)
    steps = split.fine_scale.reshape(-1, *[1] * (w.ndim - 1)).astype(np.float64)
    error = np.abs(split.recombined.astype(np.float64) - w)
    # float32 holds the sum of both parts to one unit in the last place
    assert (error <= 0.5 * steps * (1 + 1e-5) + np.spacing(np.abs(w))).all()


def test_a_huge_centre_costs_the_neighbours_nothing() -> None:
    w = weights(3, (3, 3))
    neighbours = w.copy()
    neighbours[centre_index(w.shape)] = 0
    w[centre_index(w.shape)] = 0
    w[centre_index(w.shape)] += 20 * np.abs(neighbours).max(axis=(1, 2, 3), keepdims=True)
    split = split_weight(w)
    is_neighbour = neighbours != 0
    error = np.abs(split.recombined - w)[is_neighbour]
    steps = np.broadcast_to(split.fine_scale.reshape(-1, 1, 1, 1), w.shape)[is_neighbour]
    assert (error <= 0.5 * steps * (1 + 1e-5)).all()
    scale = symmetric_scale(w, "channel", 8)
    plain = quantize_symmetric(w, scale, 8) * scale.reshape(-1, 1, 1, 1)
    plain_error = np.abs(plain - w)[is_neighbour]
    assert plain_error.max() >= 10 * error.max()
    assert np.sqrt(np.mean(plain_error**2)) >= 10 * np.sqrt(np.mean(error**2))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KERNELS),
    st.sampled_from([("tensor", "tensor"), ("tensor", "channel"), ("channel", "channel")]),
    st.sampled_from([4, 6, 8]),
    st.floats(1e-4, 1e4),
    st.booleans(),
)
def test_linked_steps_are_powers_of_two_apart_and_never_clip(
    seed: int,
    kernel: tuple[int, ...],
    granularity: tuple[Any, Any],
    bits: int,
    centre: float,
    extract: bool,
) -> None:
    w = weights(seed, kernel, centre)
    options = SplitOptions(*granularity, bits=bits, extract_centre=extract, power_of_two_link=True)
    split = split_weight(w, options)
    assert split.shift is not None
    assert np.array_equal(
        np.ldexp(split.fine_scale.astype(np.float64), split.shift),
        np.broadcast_to(split.coarse_scale, split.shift.shape).astype(np.float64),
    )
    assert (np.abs(split.shift) <= bits).all()
    steps = split.fine_scale.reshape(-1, *[1] * (w.ndim - 1))
    largest = 2 ** (bits - 1) - 1
    assert (np.abs(split.fine) <= steps * (largest + 0.5)).all()
    assert (np.abs(split.fine_q.astype(np.int64)) <= largest).all()
    joined_weight = joined_integers(split, w.shape)
    assert np.abs(joined_weight).max() < 2 ** (2 * bits - 1)  # one integer of twice the width


def joined_integers(split: WeightSplit, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(Qc << k) + Qf with Python's integers; negative k shifts the fine part."""
    assert split.shift is not None
    k = np.broadcast_to(split.shift, shape[:1])
    coarse, fine = whole(split.coarse_q, shape).astype(int), split.fine_q.astype(int)
    left, right = 2 ** np.maximum(k, 0), 2 ** np.maximum(-k, 0)
    rows = [c * x + f * y for c, f, x, y in zip(coarse, fine, left, right, strict=True)]
    return np.array(rows)


@given(st.integers(0, 2**32 - 1), st.floats(1e-2, 1e3), st.booleans())
def test_one_accumulator_carries_both_parts_exactly(
    seed: int, centre: float, per_channel: bool
) -> None:
    """A = (Ac << k) + Af: int32 results equal one convolution with the joined integer weights."""
    rng = np.random.default_rng(seed)
    w = weights(seed, (3, 3), centre)
    granularity: Any = "channel" if per_channel else "tensor"
    split = split_weight(w, SplitOptions(granularity, granularity, power_of_two_link=True))
    assert split.shift is not None
    patches = rng.integers(-128, 128, size=(5, 4, 3, 3))
    coarse = np.einsum("bikl,oikl->bo", patches, whole(split.coarse_q, w.shape).astype(int))
    fine = np.einsum("bikl,oikl->bo", patches, split.fine_q.astype(int))
    joined = join_accumulators(coarse.astype(np.int32), fine.astype(np.int32), split.shift)
    assert np.array_equal(
        joined, np.einsum("bikl,oikl->bo", patches, joined_integers(split, w.shape))
    )
    unit = accumulator_scale(split).astype(np.float64)
    real = coarse * split.coarse_scale.astype(np.float64) + fine * split.fine_scale.astype(float)
    assert np.allclose(joined * unit, real, rtol=1e-12, atol=float(unit.max()) * 1e-6)


def test_an_overflowing_accumulator_is_refused() -> None:
    big = np.full((1, 1), 2**30, dtype=np.int32)
    with pytest.raises(UserError, match="exceeds 32 bits"):
        join_accumulators(big, big, np.array(7))


def test_the_channels_largest_centre_maps_to_the_largest_integer() -> None:
    w = weights(0, (3, 3))
    split = split_weight(w)
    assert (np.abs(split.coarse_q).max(axis=(1, 2, 3)) == 127).all()
    assert split.coarse_q.shape == (6, 4, 1, 1)
    assert split.coarse_scale.shape == split.fine_scale.shape == (6,)
    per_tensor = split_weight(w, SplitOptions("tensor", "tensor"))
    assert per_tensor.coarse_scale.shape == per_tensor.fine_scale.shape == ()


def test_a_dead_channel_gets_a_usable_step() -> None:
    w = weights(0, (3, 3))
    w[2] = 0
    w[4, :, 1, 1] = 0  # only the centre is dead
    split = split_weight(w)
    assert split.coarse_scale[2] == split.coarse_scale[4] == split.coarse_scale.max()
    assert not split.recombined[2].any()
    assert np.abs(split.recombined[4] - w[4]).max() <= 0.51 * split.fine_scale[4]


@pytest.mark.parametrize("up", [True, False])
def test_rounding_of_ties_does_not_matter(up: bool) -> None:
    """Half up (the authors') and half even (ONNX's) differ on ties only; both stay in bound."""
    w = (np.arange(-8, 8).reshape(1, 16, 1) / 2 * np.ones((1, 1, 3))).astype(np.float32)
    w[0, 0, 1] = -127.0  # step 1: every half is a tie
    split = split_weight(w)
    step = float(split.coarse_scale[0])
    rounded = np.floor(w[:, :, 1] / step + 0.5) if up else np.rint(w[:, :, 1] / step)
    assert np.abs(rounded - split.coarse_q[:, :, 0]).max() == (1 if up else 0)
    assert np.abs(w[:, :, 1] - step * rounded).max() <= step / 2


def test_range_ratio_sees_the_centre() -> None:
    w = np.full((2, 2, 3, 3), 0.5, np.float32)
    assert range_ratio(w) == 1.0
    w[0, 0, 1, 1] = 10.0
    assert range_ratio(w) == 20.0
    w[0, 0, 1, 1] = 1e6  # beyond 254 times the remainder of the centre is the limit
    assert range_ratio(w) == pytest.approx(254.0)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 4, 1, 1), "1x1, the centre is all of it"),
        ((4, 4, 2, 2), "2x2, an even size has no centre"),
        ((4, 4, 3, 4), "3x4, an even size has no centre"),
        ((4, 4), "no spatial axis"),
    ],
)
def test_kernels_without_a_centre_are_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        split_weight(np.ones(shape, np.float32))
    # without extraction any kernel splits
    split = split_weight(np.ones(shape, np.float32), SplitOptions(extract_centre=False))
    assert split.coarse_q.shape == shape


def test_bad_options_and_weights() -> None:
    with pytest.raises(UserError, match="2 to 8 bits"):
        SplitOptions(bits=9)
    with pytest.raises(UserError, match="NaN or infinity"):
        split_weight(np.full((1, 1, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="power-of-two link"):
        split_weight(weights(0, (3, 3)), SplitOptions("channel", "tensor", power_of_two_link=True))
