from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy.endtoend.answers import answer_of
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec, WeightsSource

DETAILS = {"free_class": 2, "voxel_m": [0.5, 0.5, 1.0], "origin_m": [-1.0, 0.0, -2.0]}


def spec(semantics: str) -> ModelSpec:
    output = OutputSpec("out", "uint8", (2, 2, 1), semantics, DETAILS)
    return ModelSpec("m", "f", "occupancy", (), (output,), WeightsSource("random", seed=0))


def test_labels_become_centres_of_occupied_voxels() -> None:
    answer = answer_of(spec("occupancy-labels"))
    assert answer is not None
    labels = np.array([[[2], [0]], [[1], [2]]], np.uint8)
    centres, classes = answer({"out": labels})
    # voxel (i, j, k) spans origin + (i, j, k) · voxel; its centre lies half a voxel further
    np.testing.assert_array_equal(centres, np.array([[-0.75, 0.75, -1.5], [-0.25, 0.25, -1.5]]))
    np.testing.assert_array_equal(classes, [0, 1])


def test_logits_give_the_same_as_their_labels() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 2, 1, 3)).astype(np.float32)
    by_logits, by_labels = answer_of(spec("occupancy-logits")), answer_of(spec("occupancy-labels"))
    assert by_logits is not None
    assert by_labels is not None
    found, expected = by_logits({"out": logits}), by_labels({"out": logits.argmax(-1)})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nobody_says_what_the_outputs_are() -> None:
    assert answer_of(spec("tensor")) is None


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_post.py").write_text(
        "def best(outputs):\n    return outputs['out'].argmax()\n"
    )
    monkeypatch.chdir(tmp_path)
    answer = answer_of(spec("occupancy-labels"), "mine_post:best")
    assert answer is not None
    assert answer({"out": np.array([1, 5, 2])}) == 1
    with pytest.raises(UserError, match=r"--post mine_post:bset: .* has no function") as error:
        answer_of(spec("tensor"), "mine_post:bset")
    assert error.value.fix == "Did you mean 'best'?"
