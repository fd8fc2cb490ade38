"""Metrics against loops checked by eye, and against formulas written another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deploy.metrics.labels import ConfusionMatrix, SliceAgreement
from deploy.metrics.occupancy import OccupancyMIoU
from deploy.metrics.tensors import ErrorAccumulator, compare_tensors
from exporters.errors import UserError

FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False, width=32)
PAIRS = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=FLOATS),
        arrays.arrays(np.float32, shape, elements=FLOATS),
    )
)


@given(PAIRS)
def test_error_equals_python_sums(pair):
    reference, candidate = pair
    r = [float(x) for x in reference.ravel()]
    c = [float(x) for x in candidate.ravel()]
    signal = math.fsum(x * x for x in r)
    other = math.fsum(x * x for x in c)
    noise = math.fsum((x - y) ** 2 for x, y in zip(r, c, strict=True))
    dot = math.fsum(x * y for x, y in zip(r, c, strict=True))

    error = compare_tensors(reference, candidate)

    assert error.count == len(r)
    assert error.max_abs == max(abs(x - y) for x, y in zip(r, c, strict=True))
    if noise == 0:
        assert error.sqnr_db == math.inf
    elif signal == 0:
        assert error.sqnr_db == -math.inf
    else:
        # float64 sums of at most 625 terms: far below 1e-9 dB
        assert error.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-9)
    if signal and other:
        expected = dot / (math.sqrt(signal) * math.sqrt(other))
        assert error.cosine == pytest.approx(expected, abs=1e-12)


@given(PAIRS, st.integers(1, 4))
def test_streaming_equals_one_shot(pair, pieces):
    reference, candidate = pair
    whole = compare_tensors(reference, candidate)
    accumulator = ErrorAccumulator()
    for r, c in zip(
        np.array_split(reference.ravel(), pieces),
        np.array_split(candidate.ravel(), pieces),
        strict=True,
    ):
        accumulator.update(r, c)
    streamed = accumulator.result()
    assert (streamed.count, streamed.max_abs) == (whole.count, whole.max_abs)
    assert streamed.sqnr_db == pytest.approx(whole.sqnr_db, abs=1e-9)
    assert streamed.cosine == pytest.approx(whole.cosine, abs=1e-12)


def test_sqnr_of_known_noise():
    signal = np.ones(1000)
    assert compare_tensors(signal, signal + 0.1).sqnr_db == pytest.approx(20.0)
    assert compare_tensors(signal, signal + 0.01).sqnr_db == pytest.approx(40.0)


def test_parts_are_the_channels_and_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(4, 3, 5))
    candidate = reference + rng.normal(size=reference.shape) * [[[0.1], [0.2], [0.4]]]
    accumulator = ErrorAccumulator(axis=1)
    accumulator.update(reference, candidate)
    for channel, part in enumerate(accumulator.parts()):
        alone = compare_tensors(reference[:, channel], candidate[:, channel])
        assert part.sqnr_db == pytest.approx(alone.sqnr_db)
        assert part.max_abs == alone.max_abs
    whole = compare_tensors(reference, candidate)
    assert accumulator.result().sqnr_db == pytest.approx(whole.sqnr_db)
    assert accumulator.result().max_abs == whole.max_abs


def test_values_that_are_not_finite_are_counted_not_averaged():
    nan, inf = math.nan, math.inf
    reference = np.array([1.0, nan, inf, inf, 2.0, 3.0])
    candidate = np.array([1.0, nan, inf, -inf, nan, 3.5])
    error = compare_tensors(reference, candidate)
    assert error.count == 2  # 1 and 3 against 3.5
    assert error.mismatched == 2  # inf against -inf, 2 against NaN
    assert error.max_abs == 0.5
    assert error.sqnr_db == pytest.approx(10 * math.log10(10 / 0.25))


def test_nothing_seen_is_nan_and_an_exact_copy_is_infinite():
    assert math.isnan(ErrorAccumulator().result().sqnr_db)
    assert ErrorAccumulator(axis=0).parts() == []
    zeros = np.zeros(3)
    assert compare_tensors(zeros, zeros).sqnr_db == math.inf
    assert compare_tensors(zeros, zeros).cosine == 1.0
    assert compare_tensors(zeros, zeros + 1).cosine == 0.0


def test_different_shapes_are_refused_in_words():
    with pytest.raises(UserError, match=r"shapes \[2\] and \[3\]. Compare two files of the same"):
        compare_tensors(np.zeros(2), np.zeros(3))
    with pytest.raises(UserError, match=r"labels have shape \[2\], the candidate \[3\]"):
        ConfusionMatrix(2).update(np.zeros(2, int), np.zeros(3, int))


LABELS = arrays.array_shapes(min_dims=1, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.uint8, shape, elements=st.integers(0, 5)),
        arrays.arrays(np.uint8, shape, elements=st.integers(0, 4)),
        arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)),
    )
)


@given(LABELS)
def test_confusion_equals_counting_by_hand(triple):
    reference, candidate, mask = triple
    matrix = ConfusionMatrix(5)  # label 5 of the reference is unknown
    matrix.update(reference, candidate, mask)

    expected = [[0] * 5 for _ in range(5)]
    for r, c, m in zip(reference.flat, candidate.flat, mask.flat, strict=True):
        if m and r < 5:
            expected[r][c] += 1
    assert matrix.counts.tolist() == expected

    total = sum(map(sum, expected))
    for label in range(5):
        hit = expected[label][label]
        row, column = sum(expected[label]), sum(line[label] for line in expected)
        union = row + column - hit
        assert matrix.iou[label] == pytest.approx(hit / union if union else math.nan, nan_ok=True)
        flips = 1 - hit / row if row else math.nan
        assert matrix.flip_rates[label] == pytest.approx(flips, nan_ok=True)
    hits = sum(expected[i][i] for i in range(5))
    assert matrix.agreement == pytest.approx(hits / total if total else math.nan, nan_ok=True)


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(UserError, match="candidate has label 7, there are 5 classes"):
        ConfusionMatrix(5).update(np.array([1]), np.array([7]))


@given(LABELS)
def test_slices_equal_comparing_each_alone(triple):
    reference, candidate, _ = triple
    accumulator = SliceAgreement(axis=-1)
    accumulator.update(reference, candidate)
    accumulator.update(candidate, reference)  # a second sample with the same agreement
    for index in range(reference.shape[-1]):
        expected = (reference[..., index] == candidate[..., index]).mean()
        assert accumulator.agreement[index] == pytest.approx(expected)


def _miou_by_sets(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: int) -> float:
    """mIoU from sets of voxel positions: no confusion matrix, no bincount."""
    values = []
    for label in range(classes - 1):
        truth = {
            (n, i)
            for n, (t, _, m) in enumerate(samples)
            for i in np.flatnonzero((t == label) & (m == 1)).tolist()
        }
        found = {
            (n, i)
            for n, (t, p, m) in enumerate(samples)
            for i in np.flatnonzero((p == label) & (m == 1) & (t < classes)).tolist()
        }
        if truth | found:
            values.append(len(truth & found) / len(truth | found))
    return 100 * sum(values) / len(values) if values else math.nan


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_miou_equals_set_arithmetic(seed, count):
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        truth = rng.integers(0, 19, (6, 5, 4)).astype(np.uint8)  # 18 is outside, hence unknown
        guess = np.where(
            rng.random(truth.shape) < 0.5, truth % 18, rng.integers(0, 18, truth.shape)
        )
        samples.append((truth, guess.astype(np.uint8), rng.integers(0, 2, truth.shape)))
    metric = OccupancyMIoU()
    for truth, guess, mask in samples:
        metric.update(guess, {"semantics": truth, "mask_camera": mask})
    assert metric.value() == pytest.approx(_miou_by_sets(samples, 18), nan_ok=True)


def test_miou_leaves_out_free_space_and_classes_that_never_occur():
    truth = np.array([0, 0, 1, 17, 17, 17], np.uint8)
    guess = np.array([0, 1, 1, 17, 17, 0], np.uint8)
    seen = np.ones(6, np.uint8)
    metric = OccupancyMIoU()
    metric.update(guess, {"semantics": truth, "mask_camera": seen})
    # class 0: 1 hit of {0, 1, 5}; class 1: 1 hit of {1, 2}; the other fifteen never occur
    assert metric.value() == pytest.approx(100 * (1 / 3 + 1 / 2) / 2)
    assert metric.iou[17] == pytest.approx(100 * 2 / 3)


def test_miou_without_evidence_is_nan_and_without_labels_an_error():
    labels = {"semantics": np.zeros(4, np.uint8), "mask_camera": np.zeros(4, np.uint8)}
    metric = OccupancyMIoU()
    metric.update(np.zeros(4, np.uint8), labels)
    assert math.isnan(metric.value())
    with pytest.raises(
        UserError, match=r"no ground truth 'mask_camera' \(it has \['semantics'\]\)"
    ):
        metric.update(np.zeros(4, np.uint8), {"semantics": np.zeros(4, np.uint8)})
