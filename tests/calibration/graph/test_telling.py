"""Which numbers decide an output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from calibration.graph.prepare import prepare
from calibration.graph.telling import Judged, telling_values
from tests.calibration import nets

INT64 = onnx.TensorProto.INT64


def net() -> tuple[nets.Net, str]:
    made = nets.Net([1, 4, 8, 8])
    hidden = made.conv("hidden", "x", (4, 8))
    return made, made.conv("logits", hidden, (8, 5), 1, relu=False)


def told(proto: onnx.ModelProto) -> list[tuple[str, Judged, int | None]]:
    return [(t.name, t.judged, t.axis) for t in telling_values(prepare(proto).graph)]


def test_a_plain_output_is_itself() -> None:
    made, logits = net()
    assert told(made.model(logits)) == [(logits, Judged.ENERGY, None)]


@pytest.mark.parametrize("axis", [1, -3])
def test_labels_are_the_logits_of_their_argmax(axis: int) -> None:
    made, logits = net()
    labels = made.node("labels", "ArgMax", logits, axis=axis, keepdims=0)
    turned = made.node("turned", "Transpose", labels, perm=[0, 2, 1])
    assert told(made.model(turned, dtype=INT64)) == [(logits, Judged.CLASSES, 1)]


def test_a_softmax_is_its_logits_and_a_sigmoid_its_chances() -> None:
    made, logits = net()
    assert told(made.model(made.node("shares", "Softmax", logits, axis=1))) == [
        (logits, Judged.ENERGY, None)
    ]
    made, logits = net()
    assert told(made.model(made.node("chances", "Sigmoid", logits))) == [
        (logits, Judged.CHANCES, None)
    ]


def test_two_outputs_of_the_same_numbers_tell_once() -> None:
    made, logits = net()
    shares = made.node("shares", "Softmax", logits, axis=1)
    assert told(made.model(shares, logits)) == [(logits, Judged.ENERGY, None)]


@pytest.mark.parametrize("sigmoid", ["before", "behind", None])
def test_what_was_picked_is_told_by_the_heads(sigmoid: str | None) -> None:
    """As boxes are made: the best scores, and the boxes at their places."""
    made = nets.Net([1, 4, 8, 8])
    hidden = made.conv("hidden", "x", (4, 8))
    score = made.conv("score", hidden, (8, 1), 1, relu=False)
    box = made.conv("box", hidden, (8, 7), 1, relu=False)
    flat = made.constant("flat", np.array([1, -1], np.int64))
    value = made.node("line", "Reshape", score, flat)
    if sigmoid == "before":
        value = made.node("chance", "Sigmoid", value)
    k = made.constant("k", np.array([5], np.int64))
    made.nodes.append(onnx.helper.make_node("TopK", [value, k], ["best", "places"], name="topk"))
    best = made.node("behind", "Sigmoid", "best") if sigmoid == "behind" else "best"
    rows = made.node("rows", "Reshape", box, made.constant("seven", np.array([7, -1], np.int64)))
    first = made.node("first", "Squeeze", "places", made.constant("zero", np.array([0], np.int64)))
    picked = made.node("picked", "Gather", rows, first, axis=1)
    proto = made.model(best, picked)
    judged = Judged.CHANCES if sigmoid else Judged.ENERGY
    expected: list[Any] = [("score_out", judged, None), ("box_out", Judged.ENERGY, None)]
    assert sorted(told(proto), key=str) == sorted(expected, key=str)
    beside = {t.name: t.beside for t in telling_values(prepare(proto).graph)}
    chances = ("score_out",) if sigmoid else ()
    assert beside == {"score_out": chances, "box_out": chances}


def test_what_works_on_picked_rows_is_no_head() -> None:
    """As overlaps of boxes are summed: a product with weights, behind a TopK."""
    made = nets.Net([1, 4, 8, 8])
    score = made.conv("score", made.conv("hidden", "x", (4, 8)), (8, 1), 1, relu=False)
    value = made.node("line", "Reshape", score, made.constant("flat", np.array([1, -1], np.int64)))
    k = made.constant("k", np.array([7], np.int64))
    made.nodes.append(onnx.helper.make_node("TopK", [value, k], ["best", "places"], name="topk"))
    weight = made.constant("pairs", np.ones((7, 7), np.float32))
    assert told(made.model(made.node("sums", "MatMul", "best", weight))) == [
        ("score_out", Judged.ENERGY, None)
    ]


def test_inputs_alone_tell_nothing() -> None:
    made, _ = net()
    labels = made.node("labels", "ArgMax", "x", axis=1)
    assert told(made.model(labels, dtype=INT64)) == []
