"""Another basis: the same float network, and no channel that stands out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.illm import export
from exporters.illm.float_decoder import logits
from exporters.illm.rotation import RotatedSource, hadamard, orthogonal
from exporters.illm.source import open_source
from tests.exporters.illm.checkpoints import KINDS
from tests.exporters.illm.test_decoder import Runner, real_logits, sqnr_db

Checkpoint = Callable[[str], tuple[Path, Any]]
IDS = [5, 77, 200, 3, 3, 150, 319, 8, 41]


@pytest.mark.parametrize("size", [1, 2, 12, 20, 48, 64, 240, 576])
def test_hadamard_matrices_are(size: int) -> None:
    found = hadamard(size)
    assert found is not None
    assert set(np.unique(found)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(found @ found.T, size * np.eye(size))


@pytest.mark.parametrize("size", [3, 14, 28, 63])
def test_sizes_without_one_are_orthogonal_all_the_same(size: int) -> None:
    assert hadamard(size) is None
    found = orthogonal(size, 5)
    np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_float_network_stays_what_it_is(checkpoint: Checkpoint, kind: str) -> None:
    source = open_source(checkpoint(kind)[0])
    rotated = RotatedSource(source)
    right, found = logits(source, IDS), logits(rotated, IDS)
    # float32 in another basis: a hundred roundings of 6e-8
    np.testing.assert_allclose(found, right, atol=1e-4 * np.abs(right).max())
    assert not rotated.config.tied
    assert rotated.sha256 != source.sha256


def test_an_outlier_channel_is_spread() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 64))
    rows[:, 7] *= 100
    spread = rows @ orthogonal(64, 0)
    share = lambda x: (np.abs(x).max(1) / np.sqrt((x**2).mean(1))).mean()  # noqa: E731
    assert share(rows) > 7
    assert share(spread) < 2


def test_the_file_of_a_rotated_network_gives_what_the_network_gives(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder, _ = checkpoint("qwen2")
    export("illm", tmp_path / "m.onnx", checkpoint=folder, basis="rotated")
    export("illm", tmp_path / "f.onnx", checkpoint=folder, precision="float")
    found, right = (real_logits(Runner(tmp_path / f"{n}.onnx").step(IDS)) for n in "mf")
    assert sqnr_db(right, found) > 20  # 8 bits, as without rotation
