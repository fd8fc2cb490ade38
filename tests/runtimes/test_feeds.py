from __future__ import annotations

import numpy as np
import pytest

from exporters.errors import UserError
from runtimes.base import TensorInfo
from runtimes.feeds import check_feeds

INPUTS = (TensorInfo("images", "uint8", (6, "h", 3)), TensorInfo("cells", "int32", (4,)))
GOOD = {"images": np.zeros((6, 9, 3), np.uint8), "cells": np.zeros(4, np.int32)}


def test_matching_feeds_pass_and_dynamic_axes_take_any_size() -> None:
    check_feeds(INPUTS, GOOD)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": GOOD["images"]}, "no input 'image'. Did you mean 'images'?"),
        ({"cells": None}, "input 'cells' is missing. Feed int32 [4]"),
        (
            {"cells": np.zeros(4, np.int64)},
            "input 'cells' is int64, the model takes int32. Convert it with .astype('int32')",
        ),
        (
            {"images": np.zeros((5, 9, 3), np.uint8)},
            "input 'images' has shape [5, 9, 3], the model takes [6, h, 3]",
        ),
        ({"cells": np.zeros((4, 1), np.int32)}, "has shape [4, 1], the model takes [4]"),
    ],
)
def test_a_wrong_feed_is_named(change: dict[str, np.ndarray | None], words: str) -> None:
    feeds = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(UserError) as error:
        check_feeds(INPUTS, feeds)
    assert words in str(error.value)
