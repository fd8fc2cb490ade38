from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporters.errors import UserError
from runtimes.base import TensorInfo
from runtimes.feeding import describe_random, inputs_of_file, random_feeds
from runtimes.feeds import check_feeds
from tests.runtimes import models

INPUTS = (
    TensorInfo("images", "uint8", (2, 3, 4)),
    TensorInfo("points", "float16", (100,)),
    TensorInfo("mask", "bool", (50,)),
    TensorInfo("cells", "int64", (7,)),
)


def test_feeds_fit_the_inputs_and_the_seed_decides() -> None:
    feeds = random_feeds(INPUTS, seed=3)
    check_feeds(INPUTS, feeds)
    again, other = random_feeds(INPUTS, seed=3), random_feeds(INPUTS, seed=4)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert not np.array_equal(feeds["images"], other["images"])
    assert not feeds["cells"].any(), "zero is the one index that every table has"
    assert 0 < feeds["mask"].mean() < 1


def test_what_was_fed_is_said() -> None:
    sentence = describe_random(INPUTS, 3)
    assert sentence == (
        "inputs are random, seed 3; zeros for cells: give --samples to time real data"
    )
    assert "zeros" not in describe_random(INPUTS[:3], 3)


def test_dynamic_sizes_ask_for_samples() -> None:
    with pytest.raises(UserError, match=r"input 'x' has dynamic axes \['n', 3\]") as error:
        random_feeds([TensorInfo("x", "float32", ("n", 3))])
    assert "--samples" in error.value.fix


def test_inputs_are_read_from_the_model_file_without_its_weights(tmp_path: Path) -> None:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    assert inputs_of_file(path) == (TensorInfo("x", "float32", (1, 8, 16, 16)),)
