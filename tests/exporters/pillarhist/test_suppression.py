"""Overlaps and suppression in tensor operators against polygons clipped one by one."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporters.pillarhist import host
from exporters.pillarhist.decoding import atan2
from exporters.pillarhist.suppression import Suppression, overlap
from exporters.trace import trace

Boxes = NDArray[np.float32]
TOLERANCE = 1e-5  # of an IoU, in float32 with edges moved by two millionths


def random_boxes(seed: int, count: int, span: float) -> Boxes:
    random = np.random.default_rng(seed)
    places = random.uniform(-span / 2, span / 2, (count, 2)) + random.uniform(-60, 60, 2)
    sizes = random.uniform((0.4, 0.4), (6, 3), (count, 2))
    boxes: Boxes = np.c_[places, sizes, random.uniform(-4, 4, count)].astype(np.float32)
    return boxes


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    shared = overlap(torch.from_numpy(a.T.copy()), torch.from_numpy(b.T.copy())).double().numpy()
    return np.asarray(shared / (a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared))


def test_overlap_of_random_boxes() -> None:
    a, b = random_boxes(0, 2000, 5), random_boxes(0, 2000, 5)[::-1].copy()
    expected = [
        host.rotated_iou(x, y) for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    assert np.count_nonzero(expected) > 500
    np.testing.assert_allclose(iou(a, b), expected, atol=TOLERANCE)


def test_the_oracle_agrees_with_shapely() -> None:
    boxes = random_boxes(1, 80, 6).astype(float)
    shapes = [shapely.Polygon(host.corners(box)) for box in boxes]
    for a, first in zip(boxes, shapes, strict=True):
        for b, second in zip(boxes, shapes, strict=True):
            shared = first.intersection(second).area
            expected = shared / (first.area + second.area - shared)
            assert host.rotated_iou(a, b) == pytest.approx(expected, abs=1e-9)


TURNS = [0, math.pi / 2, math.pi, -math.pi / 2, math.pi / 4, 1.57, 0.7]
SPECIAL = [(0, 0, 2, 2), (0, 0, 4, 2), (1, 0, 2, 2), (2, 0, 2, 2), (50, 50, 4, 2), (0, 0, 0.5, 0.5)]


@pytest.mark.parametrize("first", SPECIAL)
def test_boxes_whose_edges_coincide(first: tuple[float, ...]) -> None:
    every = np.array([(*box, turn) for box in SPECIAL for turn in TURNS], np.float32)
    for turn in TURNS:
        one = np.tile(np.array([*first, turn], np.float32), (len(every), 1))
        expected = [host.rotated_iou(one[0].astype(float), box) for box in every.astype(float)]
        # between 1.57 and pi / 2, edges that nearly coincide cross at 8e-4 radians: where they do
        # is known to a thousandth of what float32 knows of their ends
        np.testing.assert_allclose(iou(one, every), expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), span=st.floats(3, 80), limit=st.sampled_from([0.01, 0.2, 0.5])
)
def test_suppression_is_greedy(seed: int, span: float, limit: float) -> None:
    boxes = random_boxes(seed, 40, span)
    kept, nearest = host.suppress(boxes.astype(float), -np.arange(40.0), limit)
    if nearest < TOLERANCE:
        return
    found = Suppression(1, 40, limit)(torch.from_numpy(boxes)[None], torch.ones(1, 40) > 0)
    np.testing.assert_array_equal(np.flatnonzero(found[0]), kept)


def test_a_long_chain_is_resolved() -> None:
    """Each box overlaps the next only, so every second one stays."""
    boxes = torch.tensor([[0.9 * index, 0.0, 1.0, 1.0, 0.0] for index in range(40)])
    keep = Suppression(1, 40, 0.01)(boxes[None], torch.ones(1, 40) > 0)
    assert keep[0].tolist() == [1.0, 0.0] * 20


def test_boxes_that_do_not_exist_suppress_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 2, 0], [0.1, 0, 4, 2, 0]])[None]
    assert Suppression(1, 2, 0.2)(boxes, torch.tensor([[False, True]])).tolist() == [[0.0, 1.0]]


def test_groups_and_few_pairs_give_the_same() -> None:
    """Where only near pairs are compared; groups do not see each other."""
    boxes = torch.from_numpy(np.stack([random_boxes(seed, 30, 30) for seed in range(3)]))
    valid = torch.ones(3, 30) > 0
    whole = Suppression(3, 30, 0.2)(boxes, valid)
    assert torch.equal(Suppression(3, 30, 0.2, pairs=400)(boxes, valid), whole)
    assert all(
        torch.equal(Suppression(1, 30, 0.2)(b[None], valid[:1])[0], w)
        for b, w in zip(boxes, whole, strict=True)
    )


@pytest.mark.parametrize("pairs", [10**6, 150])
def test_the_graph_does_the_same(pairs: int) -> None:
    module = Suppression(2, 20, 0.2, pairs=pairs)
    boxes = torch.from_numpy(np.stack([random_boxes(seed, 20, 10) for seed in range(2)]))
    valid = torch.ones(2, 20) > 0
    graph = trace(module, {"boxes": boxes, "valid": valid}, ["keep"])
    session = ort.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"boxes": boxes.numpy(), "valid": valid.numpy()})
    np.testing.assert_array_equal(found, module(boxes, valid))


def test_atan2_in_all_quadrants() -> None:
    turn = torch.linspace(-math.pi, math.pi, 721)
    y, x = torch.sin(turn), torch.cos(turn)
    y = torch.cat([y, torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 1e-30])])
    x = torch.cat([x, torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, -1e-3])])
    torch.testing.assert_close(atan2(y, x), torch.atan2(y, x), atol=1e-6, rtol=0)
