"""What a ReLU discards: clipping summands to what counts of them changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration import QuantizeOptions, observe, quantize
from calibration.samples.base import InMemorySamples
from tests.calibration import nets

Array = NDArray[Any]
SIZE = [1, 4, 10, 10]


def two_halves(relu: bool = True, shift: float = 30.0) -> onnx.ModelProto:
    """Two convolutions that cancel on the whole, their sum, and a convolution behind it."""
    net = nets.Net(SIZE)
    weight = net.random.standard_normal((8, 4, 3, 3)).astype(np.float32)
    small = net.random.standard_normal((8, 4, 3, 3)).astype(np.float32)
    low = np.where(np.arange(8) % 2, 0, -shift).astype(np.float32)  # every other one is silent
    sizes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    a = net.node("a", "Conv", "x", net.constant("wa", weight), net.constant("ba", low), **sizes)
    b = net.node("b", "Conv", "x", net.constant("wb", 0.3 * small - 0.7 * weight), **sizes)
    total = net.node("sum", "Add", a, b)
    last = net.node("relu", "Relu", total) if relu else total
    return net.model(net.conv("after", last, (8, 4), 1, relu=False))


def seen(tmp_path: Path, proto: onnx.ModelProto, feeds: list[dict[str, Array]]) -> Any:
    file = nets.saved(proto, tmp_path / "net.onnx")
    return observe(file, InMemorySamples(feeds), ["a_out", "b_out"], min_samples=1).tensors


def feeds_of(seed: int, count: int = 4) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal(SIZE).astype(np.float32)} for _ in range(count)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(0, 60))
def test_clipping_to_what_is_observed_leaves_the_relu_alone(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shift: float
) -> None:
    proto, feeds = two_halves(shift=shift), feeds_of(seed)
    found = seen(tmp_path_factory.mktemp("net"), proto, feeds)
    for feed in feeds:
        a, b = (nets.run(proto, feed, name)[0] for name in ("a_out", "b_out"))
        clipped = [
            np.clip(x, min(found[name].minimum, 0), max(found[name].maximum, 0))
            for x, name in ((a, "a_out"), (b, "b_out"))
        ]
        # float32: the sum of two clipped values may round to a hair above zero
        assert np.abs(np.maximum(sum(clipped), 0) - np.maximum(a + b, 0)).max() <= 1e-5


def test_observed_is_what_the_formula_says(tmp_path: Path) -> None:
    proto, feeds = two_halves(), feeds_of(1)
    found = seen(tmp_path, proto, feeds)
    a, b = (
        np.concatenate([nets.run(proto, feed, name)[0] for feed in feeds])
        for name in ("a_out", "b_out")
    )
    for name, one, other in (("a_out", a, b), ("b_out", b, a)):
        counts = np.where(one + other > 0, one, -np.maximum(other, 0))
        assert found[name].minimum == pytest.approx(counts.min(), rel=1e-5)
        assert found[name].maximum == pytest.approx(counts.max(), rel=1e-5)
    assert found["a_out"].minimum > 1.3 * a.min()  # negative: what lies below was left out


def test_without_a_relu_everything_counts(tmp_path: Path) -> None:
    proto, feeds = two_halves(relu=False), feeds_of(2)
    found = seen(tmp_path, proto, feeds)
    low = min(float(nets.run(proto, feed, "a_out")[0].min()) for feed in feeds)
    assert found["a_out"].minimum == pytest.approx(low, rel=1e-5)


def test_the_integer_file_is_nearer_for_it(tmp_path: Path) -> None:
    """Against scales of the summands' whole ranges, made from a network that reads them twice."""
    proto = two_halves(shift=100.0)
    twice = onnx.ModelProto()
    twice.CopyFrom(proto)
    for name in ("a_out", "b_out"):  # another reader: the summand counts as a whole
        node = onnx.helper.make_node("Relu", [name], [f"{name}/also"], name=f"{name}/also")
        twice.graph.node.append(node)
        twice.graph.output.append(
            onnx.helper.make_tensor_value_info(f"{name}/also", onnx.TensorProto.FLOAT, None)
        )
    held_out = feeds_of(9)
    truth = np.concatenate([nets.run(proto, feed, "relu_out")[0] for feed in held_out])
    sqnr = []
    for which in (twice, proto):
        file = nets.saved(which, tmp_path / "net.onnx")
        options = QuantizeOptions(
            "onnxruntime", "minmax", overwrite=True, correct_bias=False, min_samples=1
        )
        result = quantize(file, InMemorySamples(feeds_of(3, 8)), tmp_path / "int8.onnx", options)
        outputs = [nets.run(result.model, feed, "relu_out")[0] for feed in held_out]
        sqnr.append(nets.sqnr_db(truth, np.concatenate(outputs)))
    assert sqnr[1] > sqnr[0] + 3.0
