"""mAP and NDS of nuScenes: by hand, against the rules written slowly, and of the truth itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.metrics.boxes.nuscenes_matching import (
    DISTANCES_M,
    ERRORS,
    RANGE_M,
    NuScenesObjects,
    sample_evidence,
)
from deploy.metrics.boxes.nuscenes_nds import NuScenesNDS, summary_pool
from exporters.errors import UserError


def objects(*rows: tuple) -> NuScenesObjects:
    """From (name, x, y, score), everything else alike."""
    count = len(rows)
    places = np.array([row[1:3] for row in rows], float).reshape(count, 2)
    return NuScenesObjects(
        names=tuple(row[0] for row in rows),
        boxes=np.c_[places, np.tile([0.5, 4.0, 2.0, 1.5, 0.0], (count, 1))],
        velocity=np.zeros((count, 2)),
        attributes=("vehicle.moving",) * count,
        scores=np.array([row[3] if len(row) > 3 else 0.0 for row in rows], float),
        points=np.ones(count),
    )


def values(*frames: tuple[NuScenesObjects, NuScenesObjects]) -> NuScenesNDS:
    metric = NuScenesNDS()
    for truth, found in frames:
        metric.update(truth, found)
    return metric


def everything(rng: np.random.Generator) -> NuScenesObjects:
    names = tuple(RANGE_M)
    made = objects(*((name, 3 * i, 10 * rng.random()) for i, name in enumerate(names)))
    made.boxes[:, 6] = rng.normal(0, 2, len(made))
    made.velocity[:] = rng.normal(0, 3, (len(made), 2))
    return made


def test_truth_against_itself_is_whole():
    rng = np.random.default_rng(0)
    frames = [everything(rng) for _ in range(4)]
    metric = values(*((f, f.scored(rng.random(len(f)))) for f in frames))
    found = metric.summary()
    # precision 1 everywhere: (1 - 0.1) / 0.9
    assert found.pop("map") == pytest.approx(100.0)
    assert metric.value() == found.pop("nds") == pytest.approx(100.0)
    assert found == pytest.approx(dict.fromkeys(ERRORS, 0.0))


def test_one_of_two_cars_by_hand():
    """Two cars, one found 0.7 m off, after a mistake with a higher score.

    At 0.5 m nothing is right. At 1, 2 and 4 m precision is 0 at the mistake and 1/2 at the hit,
    where recall reaches 1/2. Recall goes 0, 0.5: between the two the curve is interpolated from 0
    to 1/2, so that precision at recall r is r, for r = 0.11 … 0.50. AP = sum (r - 0.1) / 0.9 / 90
    = (0.01 + 0.02 + … + 0.40) / 81 = 8.2 / 81.
    Errors: the only hit is 0.7 m off, at every recall; size, yaw, velocity and attribute are right.
    mAP = (0 + 3 * 8.2 / 81) / 4; NDS = (5 mAP + 0.3 + 4) / 10.
    """
    truth = objects(("car", 10, 0), ("car", -10, 0))
    found = objects(("car", 30, 0, 0.9), ("car", 10.7, 0, 0.8))
    metric = values((truth, found))
    car = metric.class_table()["car"]
    assert [car[f"ap@{d:g}"] for d in DISTANCES_M] == pytest.approx([0, *[820 / 81] * 3])
    assert car["place"] == pytest.approx(0.7)
    assert [car[name] for name in ERRORS[1:]] == pytest.approx([0] * 4, abs=1e-12)
    average = 3 * 8.2 / 81 / 4
    assert metric.summary()["map"] == pytest.approx(100 * average)
    assert metric.value() == pytest.approx(100 * (5 * average + 0.3 + 4) / 10)


def only_errors(truth: NuScenesObjects, found: NuScenesObjects) -> dict[str, float]:
    metric = values((truth, found))
    return metric.class_table()[truth.names[0]]


def test_errors_by_hand():
    truth, found = objects(("car", 10, 0)), objects(("car", 10, 0, 0.5))
    found.boxes[:, 3:6] = [4, 2, 0.5]  # a third of the height: IoU 1/3
    found.boxes[:, 6] = math.pi + 0.25  # nearly turned round: pi - 0.25 the other way
    found.velocity[:] = [3, 4]
    wrong = only_errors(truth, found)
    assert [wrong[name] for name in ERRORS] == pytest.approx([0, 2 / 3, math.pi - 0.25, 5, 0])
    # of a barrier the two ends are alike
    barrier, turned = objects(("barrier", 10, 0)), objects(("barrier", 10, 0, 0.5))
    turned.boxes[:, 6] = math.pi + 0.25
    assert only_errors(barrier, turned)["yaw"] == pytest.approx(0.25)


def test_what_is_not_known_is_no_error_until_nothing_is_known():
    truth = objects(("car", 10, 0), ("car", 20, 0))
    found = objects(("car", 10, 0, 0.5), ("car", 20, 0, 0.6))
    truth.velocity[0] = np.nan
    found.velocity[1] = [2, 0]
    assert only_errors(truth, found)["velocity"] == pytest.approx(2.0)
    truth.velocity[:] = np.nan
    assert only_errors(truth, found)["velocity"] == 1.0


@pytest.mark.parametrize(
    ("truth", "found", "wanted", "boxes"),
    [
        ([("car", 49.9, 0)], [("car", 50.1, 0, 0.5)], 1, 0),
        ([("pedestrian", 0, 40.1)], [("pedestrian", 0, 39.9, 0.5)], 0, 1),
        ([("bicycle", 10, 0), ("bicycle_rack", 11, 0)], [("bicycle", 12, 0.5, 0.5)], 0, 0),
        ([("bicycle", 10, 0), ("bicycle_rack", 10, 2)], [("bicycle", 13, 0, 0.5)], 1, 1),
        ([("car", 10, 0), ("bicycle_rack", 10, 0)], [("car", 10, 0, 0.5)], 1, 1),
        ([("animal", 10, 0)], [("animal", 10, 0, 0.5)], 0, 0),
    ],
)
def test_what_is_judged(truth, found, wanted, boxes):
    evidence = dict(sample_evidence(objects(*truth), objects(*found)))
    assert sum(e.wanted for e in evidence.values()) == wanted
    assert sum(len(e.scores) for e in evidence.values()) == boxes


def test_objects_without_points_are_not_wanted():
    truth = objects(("car", 10, 0), ("car", 20, 0))
    truth.points[0] = 0
    assert dict(sample_evidence(truth, objects()))["car"].wanted == 1


def test_too_many_boxes_are_refused():
    crowd = objects(*(("car", 10, 0, 0.5),) * 501)
    with pytest.raises(UserError, match="501 boxes in one sample; nuScenes judges at most 500"):
        values((objects(), crowd))


def random_frame(rng: np.random.Generator) -> tuple[NuScenesObjects, NuScenesObjects]:
    truth = objects(*(("car", *rng.uniform(-20, 20, 2)) for _ in range(rng.integers(0, 6))))
    truth.velocity[rng.random(len(truth)) < 0.2] = np.nan
    near = truth.boxes[rng.random(len(truth)) < 0.8, :2]
    places = np.concatenate([rng.uniform(-20, 20, (2, 2)), near + rng.normal(0, 0.8, near.shape)])
    # ties between samples; within one a resampled set would not know which copy goes first
    scores = rng.permutation(9)[: len(places)] / 10 + 0.1
    rows = [("car", *place, score) for place, score in zip(places, scores, strict=True)]
    found = objects(*rows)
    found.boxes[:, 6] = rng.normal(0, 1, len(found))
    found.velocity[:] = rng.normal(0, 1, (len(found), 2))
    return truth, found


def slow_table(frames) -> list[float]:
    """The rules with numpy's own interpolation: AP at four distances, then place, yaw, velocity."""
    total = sum(len(truth) for truth, _ in frames)
    boxes = [
        (score, frame, index)
        for frame, (_, found) in enumerate(frames)
        for index, score in enumerate(found.scores)
    ]
    boxes = [boxes[i] for _, i in sorted((b[0], i) for i, b in enumerate(boxes))][::-1]
    grid, table = np.linspace(0, 1, 101), []
    for limit in DISTANCES_M:
        taken, right, wrong, matched = set(), [], [], []
        for score, frame, index in boxes:
            truth, found = frames[frame]
            gaps = [
                (math.hypot(*(truth.boxes[i, :2] - found.boxes[index, :2])), i)
                for i in range(len(truth))
                if (frame, i) not in taken
            ]
            gap, i = min(gaps, default=(math.inf, -1))
            right.append(gap < limit)
            wrong.append(not gap < limit)
            if gap < limit:
                taken.add((frame, i))
                turn = truth.boxes[i, 6] - found.boxes[index, 6]
                yaw = abs(math.atan2(math.sin(turn), math.cos(turn)))
                speed = float(np.linalg.norm(truth.velocity[i] - found.velocity[index]))
                matched.append((score, gap, yaw, speed))
        errors = [1.0, 1.0, 1.0]
        average = 0.0
        if matched:
            recall = np.cumsum(right) / total
            precision = np.cumsum(right) / (np.cumsum(right) + np.cumsum(wrong))
            curve = np.interp(grid, recall, precision, right=0)
            scores = np.interp(grid, recall, [b[0] for b in boxes], right=0)
            average = float(np.maximum(curve[11:] - 0.1, 0).mean() / 0.9)
            last = np.flatnonzero(scores)[-1]
            steps = np.array(matched)
            for kind in range(3):
                column = steps[:, 1 + kind]
                if last < 11 or np.isnan(column).all():
                    continue
                known = np.cumsum(~np.isnan(column))
                means = np.divide(
                    np.nancumsum(column), known, out=np.zeros(len(column)), where=known > 0
                )
                at = np.interp(scores[::-1], steps[::-1, 0], means[::-1])[::-1]
                errors[kind] = float(at[11 : last + 1].mean())
        table.append(average)
        if limit == 2.0:
            kept = errors
    return [*table, *kept]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_sets_of_samples_have_the_value_of_the_slow_evaluator(seed):
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng) for _ in range(rng.integers(1, 10))]
    times = rng.integers(0, 3, len(frames))
    for row in (np.ones(len(frames), int), times):
        drawn = [frame for frame, n in zip(frames, row, strict=True) for _ in range(n)]
        if not any(len(truth) for truth, _ in drawn):
            continue
        evidence: dict[str, list] = {"car": []}
        for truth, found in frames:
            evidence["car"].append(dict(sample_evidence(truth, found))["car"])
        summary = summary_pool(evidence)(row[None].astype(float))[0]
        expected = slow_table(drawn)
        assert summary[0] == pytest.approx(100 * np.mean(expected[:4]), abs=1e-9)
        assert summary[[1, 3, 4]] == pytest.approx(expected[4:], abs=1e-9)
