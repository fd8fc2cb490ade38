"""What a report says of ranges is what numpy finds in the tensors themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import QuantizeOptions, quantize
from calibration.observing.histogram import Histogram
from calibration.reporting import thumbnails
from tests.calibration import nets


def made(folder: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    """The report of a quantized `residual`, and its float model."""
    proto = nets.residual()
    file = nets.saved(proto, folder / "m.onnx")
    asked = QuantizeOptions(**{"policy": "onnxruntime", **options})
    result = quantize(file, nets.samples(proto, 6), folder / "q.onnx", asked)
    return dict(result.report), proto


def everything(proto: Any, tensor: str) -> np.ndarray:
    """All values of a tensor over the calibration set."""
    feeds = list(nets.samples(proto, 6))
    if tensor == "x":
        return np.stack([feed["x"] for feed in feeds])
    return np.stack([nets.run(proto, feed, tensor)[0] for feed in feeds])


def test_activation_ranges_are_those_of_the_tensors(tmp_path: Path) -> None:
    report, proto = made(tmp_path, scales="percentile")
    entries = {entry["tensor"]: entry for entry in report["activation_ranges"]}
    assert len(entries) == report["activations"]["tensors"]
    clipped = 0
    summands = {name for n in proto.graph.node if n.op_type == "Add" for name in n.input}
    for tensor, entry in entries.items():
        values = everything(proto, tensor).astype(np.float64)
        if tensor in summands:  # what the ReLU behind the sum throws away is not observed
            slack = 1e-4 * np.abs(values).max()  # five digits are kept
            assert values.min() - slack <= entry["minimum"] <= entry["maximum"]
            assert entry["maximum"] <= values.max() + slack
            continue
        # observed with taps, ONNX Runtime fuses otherwise: a rounding apart; five digits are kept
        assert entry["minimum"] == pytest.approx(values.min(), rel=6e-5, abs=1e-6)
        assert entry["maximum"] == pytest.approx(values.max(), rel=6e-5, abs=1e-6)
        step = (entry["high"] - entry["low"]) / 255
        outside = (values < entry["low"] - step / 2) | (values > entry["high"] + step / 2)
        # a bin of 4096 lies across the border: it holds a value or two of these thousands
        assert entry["clipped"] == pytest.approx(outside.mean(), abs=3 / values.size)
        clipped += outside.any()
    assert clipped > 3, "percentile clips most tensors"
    assert entries["x"]["method"] == "minmax"
    assert entries["stem/relu_out"]["method"] == "percentile"
    assert (entries["stem/relu_out"]["node"], entries["stem/relu_out"]["op_type"]) == (
        "stem/relu",
        "Relu",
    )
    assert entries["pool_out"]["shared_by"] >= 2, "max pooling keeps the scale of its input"


def test_bars_are_square_roots_of_the_counts(tmp_path: Path) -> None:
    report, proto = made(tmp_path, scales="mse")
    entry = next(e for e in report["activation_ranges"] if e["tensor"] == "x")
    values = everything(proto, "x")
    counts, _ = np.histogram(values, thumbnails.BARS, (values.min(), values.max()))
    expected = 100 * np.sqrt(counts / counts.max())
    # the histogram's bins do not end where bars do; a hundredth of the height is rounding
    assert np.abs(np.array(entry["bars"]) - expected).max() < 8


def test_minmax_keeps_no_histogram_whoever_observed(tmp_path: Path) -> None:
    report, _ = made(tmp_path, scales="minmax")
    assert all(e["bars"] == [] and e["clipped"] == 0 for e in report["activation_ranges"])


def test_auto_says_whose_range_each_tensor_has(tmp_path: Path) -> None:
    report, _ = made(tmp_path, scales="auto")
    methods = {e["tensor"]: e["method"] for e in report["activation_ranges"]}
    assert {t: m for t, m in methods.items() if t in report["scale_method_of"]} == report[
        "scale_method_of"
    ]
    assert set(methods.values()) <= {"any", "minmax", "percentile", "mse", "kl-r", "entropy"}


def test_weight_ranges_are_those_of_the_weights(tmp_path: Path) -> None:
    report, proto = made(tmp_path)
    floats = {t.name: nets.numpy_helper.to_array(t) for t in proto.graph.initializer}
    entries = {entry["node"]: entry for entry in report["weight_ranges"]}
    assert set(entries) == {"stem", "b1.c1", "b1.c2", "b2.c1", "b2.c2", "b2.down", "head", "fc"}
    for name, entry in entries.items():
        weight = floats[f"{name}.weight"].astype(np.float64)
        assert entry["shape"] == list(weight.shape)
        assert [entry["minimum"], entry["maximum"]] == pytest.approx(
            [weight.min(), weight.max()], rel=1e-4
        )
        steps = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
        assert [entry["smallest_scale"], entry["largest_scale"]] == pytest.approx(
            [steps.min(), steps.max()], rel=1e-4
        )
        grid = steps.reshape(-1, *[1] * (weight.ndim - 1))
        error = np.rint(weight / grid) * grid - weight
        sqnr = 10 * np.log10((weight**2).sum() / (error**2).sum())
        assert entry["sqnr_db"] == pytest.approx(sqnr, abs=0.01)
        rms = np.sqrt((weight**2).mean())
        assert entry["peak_to_rms"] == pytest.approx(np.abs(weight).max() / rms, rel=1e-3)


@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=200))
def test_a_thumbnail_has_its_tallest_bar_where_most_values_are(values: list[float]) -> None:
    array = np.array(values, np.float32)
    low, high = float(array.min()), float(array.max())
    histogram = Histogram()
    histogram.add(array)
    bars = thumbnails.of_histogram(histogram, low, high)
    if not high > low:
        assert bars == thumbnails.of_array(array, low, high) == []
        return
    assert len(bars) == thumbnails.BARS
    assert max(bars) == 100
    assert min(bars) >= 0
    assert len(thumbnails.of_array(array, low, high)) == thumbnails.BARS
