"""KITTI's AP: by hand, against a slow evaluator written from the rules, and of the truth itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.metrics.boxes.kitti_ap import KittiAP, ap_pool
from deploy.metrics.boxes.kitti_matching import (
    DIFFICULTIES,
    frame_evidence,
)
from deploy.metrics.boxes.kitti_objects import KINDS, KittiObjects, overlaps
from exporters.errors import UserError

EASY, MODERATE, HARD = DIFFICULTIES


def objects(*rows: tuple, ignored: tuple = ()) -> KittiObjects:
    """From (name, left, height in px, score or occlusion): image boxes 50 px wide, cars in a row.

    A box's left edge says where it stands: ten pixels are a metre.
    """
    count = len(rows)
    left = np.array([row[1] for row in rows], float).reshape(count)
    height = np.array([row[2] for row in rows], float).reshape(count)
    last = np.array([row[3] for row in rows], float).reshape(count)
    return KittiObjects(
        names=tuple(row[0] for row in rows),
        pixels=np.c_[left, np.zeros(count), left + 50, height],
        sizes=np.tile([1.5, 1.6, 4.0], (count, 1)),
        places=np.c_[left / 10, np.ones(count), np.full(count, 20.0)],
        rotation=np.zeros(count),
        alpha=np.zeros(count),
        truncation=np.zeros(count),
        occlusion=last,
        scores=last,
        ignored_pixels=np.array(ignored, float).reshape(-1, 4),
    )


def value(frames: list, kind: str = "2d", name: str = "Car", difficulty=MODERATE, points=40):
    evidence = [frame_evidence(t, f, kind, name, difficulty) for t, f in frames]
    return float(ap_pool(evidence, points=points)(np.ones((1, len(frames))))[0])


def test_two_of_four_cars_found_by_hand():
    """Four cars; found: the first at 0.9, a mistake at 0.8, the second at 0.7.

    Scores at which precision is looked up: the first hit, recall 1/4, is taken for slot 0, the next
    hit, the last, is always taken: slot 1. Precision there 1/1 and 2/3. R40 leaves slot 0 out:
    100 / 40 * 2/3 = 1.667. R11 takes slots 0, 4, 8 …: 100 / 11 * 1 = 9.09.
    """
    truth = objects(*(("Car", 100 * i, 30, 0) for i in range(4)))
    found = objects(("Car", 0, 30, 0.9), ("Car", 700, 30, 0.8), ("Car", 100, 30, 0.7))
    assert value([(truth, found)]) == pytest.approx(100 / 40 * 2 / 3)
    assert value([(truth, found)], points=11) == pytest.approx(100 / 11)


def test_hits_in_plenty_fill_the_slots_in_between():
    """80 cars in 80 frames, all found, recall goes up by 1/80 with each.

    The first hit is taken for recall 0, then every second one: 2/80, 4/80 … 80/80. These are all 41
    slots, and precision is TP / (TP + FP) of the boxes down to there.
    """
    frames = []
    for i in range(80):
        score = 1 - i / 100
        frames.append((objects(("Car", 0, 30, 0)), objects(("Car", 0, 30, score))))
    assert value(frames) == pytest.approx(100.0)
    # one mistake above all others: precision is k / (k + 1) at the k-th hit
    frames[40] = (frames[40][0], objects(("Car", 0, 30, 0.6), ("Car", 700, 30, 2.0)))
    # monotone from the right: the best is the last, 80 / 81, everywhere
    assert value(frames) == pytest.approx(100 * 80 / 81)


CASES = {
    "a van is no mistake": ([("Van", 0, 30, 0)], [("Car", 0, 30, 0.9)], 0, 0),
    "a truck is one": ([("Truck", 0, 30, 0)], [("Car", 0, 30, 0.9)], 0, 1),
    "a hidden car is not wanted": ([("Car", 0, 30, 2)], [("Car", 0, 30, 0.9)], 0, 0),
    "nor one too low": ([("Car", 0, 25, 0)], [("Car", 0, 25, 0.9)], 0, 0),
    "a low box is no mistake": ([], [("Car", 0, 24, 0.9)], 0, 0),
    "a low box of any class takes a car": ([("Car", 0, 25.5, 0)], [("Bus", 0, 24, 0.9)], 0, 0),
    "two boxes on one car": ([("Car", 0, 30, 0)], [("Car", 0, 30, 0.9), ("Car", 2, 30, 0.8)], 1, 1),
    "of two cars the first takes the better": (
        [("Car", 0, 30, 0), ("Car", 4, 30, 0)],
        [("Car", 0, 30, 0.9), ("Car", 4, 30, 0.8)],
        2,
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_who_counts(case):
    truth, found, hits, mistakes = CASES[case]
    evidence = frame_evidence(objects(*truth), objects(*found), "2d", "Car", MODERATE)
    assert evidence.changes[:, 1:3].sum(axis=0).tolist() == [hits, mistakes]


def test_areas_without_labels_excuse_in_the_image_only():
    truth = objects(ignored=((0, 0, 200, 200),))
    found = objects(("Car", 20, 30, 0.9), ("Car", 500, 30, 0.8))
    for kind, mistakes in (("2d", 1), ("bev", 2), ("3d", 2)):
        evidence = frame_evidence(truth, found, kind, "Car", MODERATE)
        assert evidence.changes[:, 2].sum() == mistakes


def test_orientation_counts_what_the_cosine_says():
    truth = objects(("Car", 0, 30, 0))
    found = objects(("Car", 0, 30, 0.9))
    found.alpha[:] = 2 * math.pi / 3  # (1 + cos 120 degrees) / 2 = 1/4
    evidence = frame_evidence(truth, found, "2d", "Car", MODERATE)
    assert evidence.changes.tolist() == [[0.9, 1.0, 0.0, pytest.approx(0.25)]]


def test_three_dimensions_need_the_height_too():
    """Half a metre lower: common height 1.0 of 1.5 m each, IoU = 1 / (1.5 + 1.5 - 1) = 0.5."""
    first, second = objects(("Car", 0, 30, 0)), objects(("Car", 0, 30, 0.9))
    second.places[:, 1] += 0.5
    assert overlaps(first, second, "3d")[0, 0] == pytest.approx(0.5)
    assert overlaps(first, second, "bev")[0, 0] == pytest.approx(1.0)
    # a quarter turn leaves the middle 1.6 x 1.6 of 4 x 1.6: 2.56 / (12.8 - 2.56)
    second.rotation[:] = math.pi / 2
    assert overlaps(first, second, "bev")[0, 0] == pytest.approx(2.56 / 10.24)
    assert overlaps(first, second, "3d")[0, 0] == pytest.approx(2.56 / (19.2 - 2.56))


def random_frame(rng: np.random.Generator) -> tuple[KittiObjects, KittiObjects]:
    names = ["Car", "Van", "Pedestrian", "DontKnow"]
    truth = objects(
        *(
            (rng.choice(names, p=[0.6, 0.2, 0.1, 0.1]), *pair)
            for pair in zip(
                rng.integers(0, 40, 5) * 9,
                rng.integers(20, 45, 5),
                rng.integers(0, 4, 5),
                strict=True,
            )
        ),
        ignored=((300, 0, 420, 60),),
    )
    rows = [
        (*row[:2], row[2])
        for row in zip(truth.names, truth.pixels[:, 0], truth.pixels[:, 3], strict=True)
    ]
    boxes = []
    for name, left, height in [rows[i] for i in rng.integers(0, 5, rng.integers(0, 9))]:
        # few different scores, so that there are ties
        boxes.append((name, left + rng.normal(0, 4), height + rng.normal(), rng.integers(9) / 10))
    found = objects(*boxes) if boxes else objects()
    found.alpha[:] = rng.normal(0, 1, len(found))
    return truth, found


def slow_value(frames, kind: str, similarity: bool) -> float:
    """The rules once more, over whole sets and score by score. Cars, moderate."""

    def matched(frame, cutoff):
        truth, found = frame
        shared = overlaps(truth, found, kind)
        free = {j for j in range(len(found)) if cutoff is None or found.scores[j] >= cutoff}
        low = {j for j in free if abs(found.pixels[j, 3] - found.pixels[j, 1]) < 25}
        cars = {j for j in free if found.names[j] == "Car"} - low
        free, present = low | cars, set(cars)
        hits, alike = [], 0.0
        for i, name in enumerate(truth.names):
            if name not in ("Car", "Van"):
                continue
            fits = [j for j in sorted(free) if shared[i, j] > 0.7]
            if not fits:
                continue
            if cutoff is None:
                best = max(fits, key=lambda j: (found.scores[j], -j))
            elif counted := [j for j in fits if j in cars]:
                best = max(counted, key=lambda j: (shared[i, j], -j))
            else:
                best = fits[0]
            free.discard(best)
            height = truth.pixels[i, 3] - truth.pixels[i, 1]
            wanted = name == "Car" and truth.occlusion[i] <= 1 and height > 25
            if wanted and best in cars:
                hits.append(found.scores[best])
                alike += (1 + math.cos(truth.alpha[i] - found.alpha[best])) / 2
        wrong = 0
        for j in free & present:
            left, top, right, bottom = found.pixels[j]
            common = max(0, min(right, 420) - max(left, 300)) * max(
                0, min(bottom, 60) - max(top, 0)
            )
            wrong += not (kind == "2d" and common / ((right - left) * (bottom - top)) > 0.7)
        return hits, alike, wrong

    total = sum(
        name == "Car" and occlusion <= 1 and bottom - top > 25
        for truth, _ in frames
        for name, occlusion, (_, top, _, bottom) in zip(
            truth.names, truth.occlusion, truth.pixels, strict=True
        )
    )
    if total == 0:
        return math.nan
    hits = sorted((s for frame in frames for s in matched(frame, None)[0]), reverse=True)
    cutoffs, recall = [], 0.0
    for number, score in enumerate(hits, 1):
        if number < len(hits) and (number + 1) / total - recall < recall - number / total:
            continue
        cutoffs.append(score)
        recall += 1 / 40
    precision = [0.0] * 41
    for slot, cutoff in enumerate(cutoffs):
        results = [matched(frame, cutoff) for frame in frames]
        good = sum(len(hits) for hits, _, _ in results)
        boxes = good + sum(wrong for _, _, wrong in results)
        top = sum(alike for _, alike, _ in results) if similarity else good
        precision[slot] = top / boxes if boxes else 0.0
    return 100 / 40 * sum(max(precision[slot:]) for slot in range(1, 41))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.booleans())
def test_sets_of_frames_have_the_value_of_the_slow_evaluator(seed, kind, similarity):
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng) for _ in range(rng.integers(1, 12))]
    evidence = [frame_evidence(t, f, kind, "Car", MODERATE) for t, f in frames]
    # a resampled set holds frames several times, and others not at all
    times = np.stack([np.ones(len(frames)), rng.integers(0, 3, len(frames))])
    values = ap_pool(evidence, similarity=similarity)(times)
    for row, found in zip(times, values, strict=True):
        drawn = [frame for frame, n in zip(frames, row, strict=True) for _ in range(int(n))]
        assert found == pytest.approx(slow_value(drawn, kind, similarity), abs=1e-9, nan_ok=True)


def many_cars() -> list[KittiObjects]:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(25):
        rows = [(n, 100 * i, 45, 0) for i, n in enumerate(["Car", "Car", "Pedestrian", "Cyclist"])]
        frame = objects(*rows, ("Van", 600, 45, 0))
        frame.rotation[:] = frame.alpha[:] = rng.normal(0, 2, len(frame))
        frames.append(frame)
    return frames


def test_truth_against_itself_is_whole():
    """With at least 40 of a class; with fewer hits the slots cannot all be reached.

    That is how the metric is: 25 pedestrians, found without a mistake, reach 25 slots of which 24
    count, unless they have equal scores, which changes nothing.
    """
    metric = KittiAP()
    for frame in many_cars():
        metric.update(frame, frame.scored(np.linspace(0.5, 0.9, len(frame))))
    for kind in (*KINDS, "aos"):
        for difficulty in ("easy", "moderate", "hard"):
            assert metric.value(kind, "Car", difficulty) == pytest.approx(100.0)
            assert metric.value(kind, "Car", difficulty, points=11) == pytest.approx(100.0)
            assert metric.value(kind, "Pedestrian", difficulty) == pytest.approx(24 / 40 * 100)


def test_where_nothing_is_wanted_there_is_no_value():
    metric = KittiAP()
    metric.update(objects(), objects(("Car", 0, 45, 0.9)))
    assert math.isnan(metric.value("3d", "Car"))


@pytest.mark.data
def test_real_labels_against_themselves(edgeport_data: Path):
    """Six real frames hold too few objects for 40 slots: repeated, they are whole."""
    metric = KittiAP()
    files = sorted((edgeport_data / "kitti/training/label_2").glob("*.txt"))
    for file in files * 45:
        truth = KittiObjects.read(file)
        metric.update(truth, truth.scored(np.full(len(truth), 0.5)))
    found = {
        (kind, name): metric.value(kind, name, "hard")
        for kind in (*KINDS, "aos")
        for name in ("Car", "Pedestrian", "Cyclist")
    }
    known = {key: value for key, value in found.items() if not math.isnan(value)}
    assert {name for _, name in known} >= {"Car", "Pedestrian"}
    assert list(known.values()) == pytest.approx([100.0] * len(known))


def test_a_file_that_is_no_label_file(tmp_path: Path):
    path = tmp_path / "000000.txt"
    path.write_text("Car 0.0 0 1.5\n")
    with pytest.raises(UserError, match="too few columns"):
        KittiObjects.read(path)
    path.write_text("Car" + " x" * 14 + "\n")
    with pytest.raises(UserError, match="is no label file of KITTI: could not convert"):
        KittiObjects.read(path)
