"""RayIoU and RayPQ: by hand, against loops over rays, and of the truth against itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.metrics.rays.iou import (
    THRESHOLDS_M,
    RayIoU,
    SeenRays,
    mean_of_table,
    ray_counts,
    ray_iou,
    see,
)
from deploy.metrics.rays.pq import RayPQ, panoptic_quality, segment_counts
from exporters.errors import UserError

CAR, ROAD, BARRIER, FREE = 4, 11, 1, 17
ORIGINS = np.array([[0.0, 0.0, 1.8], [4.0, 1.0, 1.8]])


def street(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and instances of a flat street with boxes on it, in the grid of Occ3D."""
    rng = np.random.default_rng(seed)
    labels = np.full((200, 200, 16), FREE, np.uint8)
    labels[:, :, 1] = ROAD
    instances = np.zeros(labels.shape, np.uint8)
    for number in range(1, 13):
        x, y = rng.integers(20, 170, 2)
        box = np.s_[x : x + rng.integers(3, 12), y : y + rng.integers(3, 6), 2:6]
        labels[box] = rng.choice([CAR, 10, 7, BARRIER])
        instances[box] = number
    return labels, instances


def seen(rows: list[tuple[int, int, float]]) -> SeenRays:
    """Rays from (true label, predicted label, metres apart), each with a voxel of its own."""
    truth, prediction, apart = (np.array(column) for column in zip(*rows, strict=True))
    places = np.arange(len(rows))
    return SeenRays(truth, prediction, apart.astype(np.float32), places, places)


def test_truth_against_itself_is_whole():
    labels, instances = street()
    rays, quality = RayIoU(), RayPQ()
    rays.update(labels, labels, ORIGINS)
    # ids of barriers are in the ground truth, but no prediction tells barriers apart
    ids = np.where(labels == BARRIER, 0, instances)
    quality.update((labels, ids), (labels, instances), ORIGINS)
    for table in (rays.iou, quality.quality):
        assert rays.value() == quality.value() == 100.0
        assert np.nanmin(table) == np.nanmax(table) == 100.0
        assert not np.isnan(table[:, [CAR, ROAD]]).any()
        assert np.isnan(table[:, 16]).all()  # no vegetation anywhere


def test_ray_iou_by_hand():
    """Six rays. Car: truth 4, prediction 3; together within 1 m: one, 2 m: two, 4 m: three.

    IoU of car = 1/6, 2/5, 3/4. Road: truth 2, prediction 2, TP 1 at all: 1/3. One prediction is
    free and counts nowhere; 4.0 m apart is not below 4 m.
    """
    rows = [(CAR, CAR, 0.5), (CAR, CAR, 1.5), (CAR, CAR, 3.9), (CAR, ROAD, 0.0)]
    rows += [(ROAD, ROAD, 0.0), (ROAD, FREE, 0.0)]
    table = ray_iou(ray_counts(seen(rows), FREE))
    assert table[:, CAR] == pytest.approx([100 / 6, 40, 75])
    assert table[:, ROAD] == pytest.approx([100 / 3] * 3)
    assert mean_of_table(table) == pytest.approx((100 / 6 + 40 + 75 + 100) / 6)
    assert ray_counts(seen([(CAR, CAR, 4.0)]), FREE)[2:, CAR].tolist() == [0, 0, 0]


def test_a_wall_one_voxel_too_near_is_right_within_a_metre_only_if_it_is_thin():
    truth = np.full((200, 200, 16), FREE, np.uint8)
    near, far = truth.copy(), truth.copy()
    truth[150], near[149], far[154] = 15, 15, 15
    value = {}
    for name, labels in (("near", near), ("far", far)):
        metric = RayIoU()
        metric.update(labels, truth, np.array([[0.0, 0.0, 1.8]]))
        value[name] = metric.iou[:, 15]
    # 0.4 m nearer along x; oblique rays are up to 1.6 / cos(60 degrees) further for 4 voxels
    assert value["near"][0] > 90
    assert value["far"][0] < 10 < 90 < value["far"][2]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120))
def test_counts_equal_loops_over_rays(seed, count):
    rng = np.random.default_rng(seed)
    rays = seen(
        [
            (int(rng.integers(3)), int(rng.integers(4)), float(rng.random() * 6))
            for _ in range(count)
        ]
    )
    counts = ray_counts(rays, 3)
    triples = list(zip(rays.truth, rays.prediction, rays.apart_m, strict=True))
    for label in range(3):
        assert counts[0, label] == sum(t == label for t, _, _ in triples)
        assert counts[1, label] == sum(p == label for _, p, _ in triples)
        for row, limit in enumerate(THRESHOLDS_M):
            hits = sum(t == p == label and apart < limit for t, p, apart in triples)
            assert counts[2 + row, label] == hits


def slow_segments(rays: SeenRays, true_ids, predicted_ids, things, limit: float) -> dict:
    """The definition, ray by ray and with sets: label to (sum of IoU, TP, FP, FN)."""
    classes_of: dict[int, set] = {}
    for label, number in zip(rays.truth, true_ids, strict=True):
        classes_of.setdefault(int(number), set()).add(int(label))
    found = {}
    for label in range(4):
        true, predicted, common = Counter(), Counter(), Counter()
        for t, p, apart, i, j in zip(
            rays.truth, rays.prediction, rays.apart_m, true_ids, predicted_ids, strict=True
        ):
            whole = t in things and i >= 1 and len(classes_of[int(i)]) == 1
            segment = int(i) if whole else 0
            if t == label:
                true[segment] += 1
            if p == label:
                predicted[int(j)] += 1
            if t == p == label and apart < limit:
                common[segment, int(j)] += 1
        pairs = {
            pair: n / (true[pair[0]] + predicted[pair[1]] - n)
            for pair, n in common.items()
            if n / (true[pair[0]] + predicted[pair[1]] - n) > 0.5
        }
        missed = [i for i, n in true.items() if n >= 10 and i not in {a for a, _ in pairs}]
        extra = [j for j, n in predicted.items() if n >= 10 and j not in {b for _, b in pairs}]
        found[label] = (sum(pairs.values()), len(pairs), len(extra), len(missed))
    return found


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.floats(0, 1))
def test_segments_equal_the_definition_ray_by_ray(seed, count, likeness):
    rng = np.random.default_rng(seed)
    truth, ids = rng.integers(0, 3, count), rng.integers(0, 5, count)
    if rng.random() < 0.7:  # mostly ids of one class, so that instances are whole
        ids = np.where(ids > 0, ids + 5 * truth, 0)
    same = rng.random(count) < likeness
    rays = SeenRays(
        truth,
        np.where(same, truth, rng.integers(0, 4, count)),
        (rng.random(count) * 3).astype(np.float32),
        np.arange(count),
        np.arange(count),
    )
    predicted_ids = np.where(same, ids, rng.integers(0, 60000, count))
    counts = segment_counts(rays, ids, predicted_ids, 4, things=(0, 2))
    for row, limit in enumerate(THRESHOLDS_M):
        expected = slow_segments(rays, ids, predicted_ids, (0, 2), limit)
        for label in range(4):
            assert counts[row, label] == pytest.approx(expected[label], abs=1e-12)


def test_ray_pq_by_hand():
    """Two cars of 20 and 12 rays; the prediction finds the first with 15 of its rays and 5 more.

    IoU of the first = 15 / (20 + 20 - 15) = 0.6: TP. The second, 12 rays, has 5 of them: missed,
    FN. A third, 9 rays of prediction on the road, is too small for an FP.
    PQ = 0.6 / 1 * 1 / (1 + 0.5) = 0.4.
    """
    rows = [(CAR, CAR)] * 15 + [(CAR, ROAD)] * 5 + [(CAR, CAR)] * 5 + [(CAR, ROAD)] * 7
    rows += [(ROAD, CAR)] * 9
    true_ids = np.array([1] * 20 + [2] * 12 + [0] * 9)
    predicted_ids = np.array([20] * 15 + [11] * 5 + [20] * 5 + [11] * 7 + [21] * 9)
    rays = seen([(truth, prediction, 0.0) for truth, prediction in rows])
    counts = segment_counts(rays, true_ids, predicted_ids, FREE)
    assert counts[0, CAR] == pytest.approx([0.6, 1, 0, 1])
    assert panoptic_quality(counts)[:, CAR] == pytest.approx([40.0] * 3)


def test_barriers_are_one_segment_whatever_their_ids():
    rays = seen([(BARRIER, BARRIER, 0.0)] * 30)
    counts = segment_counts(rays, np.arange(30) // 10, np.ones(30, int), FREE)
    assert counts[0, BARRIER].tolist() == [1, 1, 0, 0]


def test_counts_of_samples_add_up_to_those_of_the_set():
    metric, total = RayIoU(), 0
    for seed in (1, 2):
        truth, prediction = street(seed)[0], street(seed + 5)[0]
        metric.update(prediction, truth, ORIGINS)
        total += ray_counts(see(prediction, truth, ORIGINS, free=FREE), FREE)
    assert np.array_equal(metric.counts, total)


@pytest.mark.parametrize(
    ("shape", "origins", "words"),
    [
        ((3, 3, 2), ORIGINS, r"prediction has shape \[3, 3, 2\], the truth \[4, 4, 2\]"),
        ((4, 4, 2), np.zeros((2, 2)), r"origins of shape \[2, 2\] are no finite points"),
        ((4, 4, 2), np.full((1, 3), np.nan), "no finite points"),
    ],
)
def test_what_does_not_fit_is_refused(shape, origins, words):
    with pytest.raises(UserError, match=words):
        see(np.zeros(shape, np.uint8), np.zeros((4, 4, 2), np.uint8), origins, free=FREE)
