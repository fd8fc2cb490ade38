"""Streaming statistics against brute force on every intermediate tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from calibration.graph.prepare import prepare
from calibration.observing import taps
from calibration.observing.histogram import BINS
from calibration.observing.observers import observe
from calibration.observing.statistics import Statistics, TensorStatistics
from calibration.observing.taps import stride_of, tap
from calibration.samples.base import InMemorySamples
from exporters.errors import UserError
from tests.calibration import nets

TENSORS = ["x", "stem/relu_out", "pool_out", "b1/add_out", "up/relu_out", "cat_out", "flat_out"]


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return nets.residual()


@pytest.fixture
def model(proto: onnx.ModelProto, tmp_path: Path) -> Any:
    return nets.saved(proto, tmp_path / "net.onnx")


def everything(proto: onnx.ModelProto, samples: InMemorySamples, tensor: str) -> Any:
    runs = [s["x"] if tensor == "x" else nets.run(proto, s, tensor)[0] for s in samples]
    return np.concatenate([values.reshape(-1) for values in runs])


def test_ranges_and_histograms_equal_brute_force(proto: onnx.ModelProto, model: Any) -> None:
    samples = nets.samples(proto, 3)
    statistics = observe(model, samples, TENSORS)
    for tensor in TENSORS:
        values = everything(proto, samples, tensor)
        found = statistics.tensors[tensor]
        # ONNX Runtime fuses Conv+Add+ReLU when it observes; sums differ in the last bits
        assert found.minimum == pytest.approx(values.min(), rel=1e-5, abs=1e-6)
        assert found.maximum == pytest.approx(values.max(), rel=1e-5, abs=1e-6)
        assert found.elements == values.size
        assert found.histogram is not None
        edges = np.arange(-BINS, BINS + 1) * found.histogram.width
        counts = np.histogram(values.astype(np.float64), bins=edges)[0]
        # for the same reason a value near an edge may be counted in the next bin, not further
        exact, counted = np.cumsum(counts), np.cumsum(found.histogram.counts)
        assert (counted[1:-1] >= exact[:-2]).all()
        assert (counted[1:-1] <= exact[2:]).all()
        if tensor == "x":
            np.testing.assert_array_equal(counted, exact)


def test_by_default_everything_is_observed_that_some_policy_quantizes(model: Any) -> None:
    statistics = observe(model, nets.samples(model.proto, 2))
    assert {"x", "b1.c2_out", "b2.down_out", "pool_out", "cat_out"} <= set(statistics.tensors)
    assert "fc_out" not in statistics.tensors


def test_ranges_only_keep_no_histogram(model: Any) -> None:
    statistics = observe(model, nets.samples(model.proto, 2), ["x"], histograms=False)
    assert statistics.tensors["x"].histogram is None
    assert not statistics.has_histograms


def test_large_tensors_are_counted_by_a_regular_subset(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "HISTOGRAM_ELEMENTS", 100)
    samples = nets.samples(model.proto, 2)
    found = observe(model, samples, ["x"]).tensors["x"]
    values = everything(model.proto, samples, "x")
    stride = stride_of(3072)
    assert found.histogram is not None
    assert found.histogram.total == 2 * -(-3072 // stride)
    assert (found.elements, found.minimum, found.maximum) == (6144, values.min(), values.max())


@pytest.mark.parametrize("size", [6 * 64 * 128 * 352, 256 * 200 * 200, 524_289, 2**27])
def test_a_stride_visits_every_axis(size: int) -> None:
    stride = stride_of(size)
    assert np.gcd(stride, size) == 1
    counted = -(-size // stride)
    assert taps.HISTOGRAM_ELEMENTS <= counted <= 2 * taps.HISTOGRAM_ELEMENTS


def test_taps_stand_in_reverse_order_so_that_activations_are_freed(model: Any) -> None:
    graph = prepare(model.proto)
    outputs = tap(graph, ["x", "pool_out", "cat_out"], {}, parts=True)
    assert [t.tensor for t in outputs.values()][::4] == ["cat_out", "pool_out", "x"]


def test_free_axes_take_their_size_from_each_sample(tmp_path: Path) -> None:
    net = nets.Net(["batch", 3, 8, 8])
    file = nets.saved(net.model(net.conv("c", "x", (3, 4))), tmp_path / "free.onnx")
    random = np.random.default_rng(0)
    sizes = (1, 3)
    samples = InMemorySamples(
        [{"x": random.standard_normal((n, 3, 8, 8)).astype(np.float32)} for n in sizes]
    )
    found = observe(file, samples, ["x"]).tensors["x"]
    assert found.elements == 4 * 3 * 64


def test_a_pass_is_repeatable_and_survives_the_disk(model: Any, tmp_path: Path) -> None:
    samples = nets.samples(model.proto, 2)
    first, second = (observe(model, samples) for _ in range(2))
    assert first == second
    for index, statistics in enumerate((first, second)):
        statistics.save(tmp_path / f"{index}.npz")
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()
    assert Statistics.load(tmp_path / "0.npz") == first
    assert first.model_sha256 == model.sha256
    assert first.samples_sha256 == samples.sha256


def test_ranges_without_histograms_survive_the_disk(model: Any, tmp_path: Path) -> None:
    statistics = observe(model, nets.samples(model.proto, 2), ["x"], histograms=False)
    statistics.save(tmp_path / "s.npz")
    assert Statistics.load(tmp_path / "s.npz") == statistics


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None])
def test_a_foreign_statistics_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s.npz"
    if content is None:
        np.savez(path, x=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="holds no calibration statistics"):
        Statistics.load(path)


def test_merged_statistics_weigh_by_elements() -> None:
    from calibration.observing.histogram import Histogram

    def part(value: float, counted: int, elements: int) -> TensorStatistics:
        histogram = Histogram()
        histogram.add(np.full(counted, value, np.float32))
        return TensorStatistics(value, value, elements, histogram)

    both = TensorStatistics.merged([part(0.3, 10, 10), part(0.7, 10, 30)])
    assert (both.minimum, both.maximum, both.elements) == (0.3, 0.7, 40)
    assert both.histogram is not None
    assert both.histogram.counts[both.histogram.counts > 0].tolist() == [10.0, 30.0]


def test_progress_is_told_sample_by_sample(model: Any) -> None:
    told: list[tuple[str, int, int]] = []
    observe(model, nets.samples(model.proto, 3), ["x"], progress=lambda *a: told.append(a))
    assert told == [(phase, done, 3) for phase in ("examine", "observe") for done in (1, 2, 3)]


# ------------------------------------------------------------------ bad input


def bad(proto: onnx.ModelProto, **change: Any) -> InMemorySamples:
    good = next(iter(nets.samples(proto, 1)))
    return InMemorySamples([good, {**good, **change}], ["good", "bad"])


def test_nan_in_a_sample_is_named(model: Any) -> None:
    values = np.ones((1, 3, 32, 32), np.float32)
    values[0, 0, 0, :2] = np.nan, 2
    with pytest.raises(UserError, match=r"sample bad: x holds 1 NaN"):
        observe(model, bad(model.proto, x=values), ["x"])


def test_a_constant_sample_is_named(model: Any) -> None:
    with pytest.raises(UserError, match=r"sample bad: x hold one constant value"):
        observe(model, bad(model.proto, x=np.zeros((1, 3, 32, 32), np.float32)), ["x"])


@pytest.mark.parametrize(
    "values",
    [np.ones((1, 3, 16, 16), np.float32), np.ones((1, 3, 32, 32), np.float64)],
    ids=["size", "type"],
)
def test_a_sample_of_another_form_says_what_the_model_takes(model: Any, values: Any) -> None:
    with pytest.raises(UserError, match=r"the model takes float32 \[1, 3, 32, 32\]"):
        observe(model, bad(model.proto, x=values), ["x"])


def test_an_unknown_input_is_named(model: Any) -> None:
    with pytest.raises(UserError, match=r"has an input 'xx'"):
        observe(model, bad(model.proto, xx=np.ones(3, np.float32)), ["x"])


def test_a_missing_input_is_named(model: Any) -> None:
    samples = InMemorySamples([{"y": np.ones(3, np.float32)}] * 2)
    with pytest.raises(UserError, match=r"has no input 'x'"):
        observe(model, samples, ["x"])


def test_too_few_samples(model: Any) -> None:
    with pytest.raises(UserError, match="1 sample is too few, at least 2 are needed"):
        observe(model, nets.samples(model.proto, 1))


def test_an_unknown_tensor_names_the_nearest(model: Any) -> None:
    with pytest.raises(UserError, match=r"no tensor 'pool_ouy'\. Did you mean 'pool_out'"):
        observe(model, nets.samples(model.proto, 2), ["pool_ouy"])


def test_an_integer_tensor_is_refused(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    labels = net.node("argmax", "ArgMax", net.conv("c", "x", (3, 4)), axis=1)
    file = nets.saved(net.model(labels, dtype=TensorProto.INT64), tmp_path / "a.onnx")
    with pytest.raises(UserError, match="only float32 is observed"):
        observe(file, nets.samples(file.proto, 2), ["argmax_out"])


def test_an_activation_that_overflows_names_sample_and_node(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    huge = net.node("huge", "Exp", net.node("big", "Mul", "x", net.constant("k", np.float32(1e4))))
    file = nets.saved(net.model(net.conv("c", huge, (3, 4))), tmp_path / "inf.onnx")
    with pytest.raises(UserError, match=r"sample 'sample-0': activation 'huge_out' of node 'huge'"):
        observe(file, nets.samples(file.proto, 2), ["huge_out"])
