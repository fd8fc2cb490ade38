"""What a pass over samples must not depend on: their number, their grouping, the clock."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph.prepare import prepare
from calibration.observing.observers import observe, observe_graph
from calibration.observing.statistics import Statistics
from calibration.samples.base import Array, InMemorySamples
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets

TENSORS = ["x", "first/relu_out", "second/relu_out"]


class Drawn:
    """As many samples as wanted, none of them kept."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.names = tuple(f"{index:04d}" for index in range(count))
        self.sha256 = f"drawn-{count}"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Array]]:
        random = np.random.default_rng(5)
        for _ in range(self._count):
            yield {"x": random.standard_normal((1, 3, 64, 64)).astype(np.float32)}


def wide() -> onnx.ModelProto:
    """Activations of 128 KiB each: 60 samples of them would be 24 MiB."""
    net = nets.Net([1, 3, 64, 64])
    second = net.conv("second", net.conv("first", "x", (3, 8)), (8, 8))
    return net.model(net.conv("last", second, (8, 2), 1, relu=False))


def peak_bytes(file: ModelFile, count: int) -> int:
    """Of what Python and numpy allocate during a pass; activations would be among it if kept."""
    model = prepare(file.proto)
    tracemalloc.start()
    try:
        observe_graph(model, file, Drawn(count), TENSORS, histograms=True, progress=None)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    file = nets.saved(wide(), tmp_path / "wide.onnx")
    peak_bytes(file, 2)  # imports and caches
    few, many = peak_bytes(file, 4), peak_bytes(file, 64)
    assert many - few < 256 * 1024  # names and one pair of numbers a sample and tensor
    assert few > 128 * 1024  # the largest activation was seen at all


def dynamic() -> onnx.ModelProto:
    net = nets.Net(["batch", 3, 8, 8])
    second = net.conv("second", net.conv("first", "x", (3, 4)), (4, 4))
    return net.model(net.conv("last", second, (4, 2), 1, relu=False))


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 10), max_size=3))
def test_a_short_last_batch_and_any_other_grouping_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    file = nets.saved(dynamic(), tmp_path_factory.mktemp("net") / "net.onnx")
    images = np.random.default_rng(2).standard_normal((11, 3, 8, 8)).astype(np.float32)

    def seen(parts: list[Array]) -> Statistics:
        return observe(file, InMemorySamples({"x": part} for part in parts), TENSORS, min_samples=1)

    whole = seen([images])
    parts = seen([part for part in np.split(images, sorted(cuts)) if len(part)])
    for name in TENSORS:
        one, other = whole.tensors[name], parts.tensors[name]
        assert one.elements == other.elements
        # kernels may sum in another order for another batch size
        assert (one.minimum, one.maximum) == pytest.approx((other.minimum, other.maximum), rel=1e-5)
        assert one.histogram is not None
        assert other.histogram is not None
        assert one.histogram.total == other.histogram.total
        moved = np.abs(np.cumsum(one.histogram.counts) - np.cumsum(other.histogram.counts))
        assert moved.max() <= 8  # values on the edge of a bin


def test_the_same_samples_give_the_same_bits(tmp_path: Path) -> None:
    file = nets.saved(wide(), tmp_path / "wide.onnx")
    for name in ("a", "b"):
        observe(file, Drawn(5), TENSORS).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_by_name(tmp_path: Path, bad: float) -> None:
    file = nets.saved(wide(), tmp_path / "wide.onnx")
    rows = [dict(sample) for sample in Drawn(3)]
    rows[1]["x"][0, 0, 0, 0] = bad
    with pytest.raises(UserError, match=r"sample-1: x holds 1 NaN or infinite"):
        observe(file, InMemorySamples(rows), TENSORS)
