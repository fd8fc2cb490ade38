"""Profiles by tensor: every kernel is charged to a tensor of the file that was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import QuantizeOptions, quantize
from exporters.errors import UserError
from runtimes.profiling import profile
from tests.calibration import nets


@pytest.fixture
def feeds() -> list[dict[str, nets.Array]]:
    return [{"x": np.ones([1, 3, 32, 32], np.float32)}]


def test_float_kernels_are_charged_to_the_tensors_they_make(
    tmp_path: Path, feeds: list[dict[str, nets.Array]]
) -> None:
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "m.onnx")
    times = profile(file.path, feeds, runs=2)
    known = {name for node in proto.graph.node for name in node.output}
    assert {t.tensor for t in times} <= known
    convs = {t.tensor for t in times if t.op_type == "Conv"}
    # a ReLU that is fused into its convolution is paid with it
    assert {"stem/relu_out", "b1.c1/relu_out", "head/relu_out"} <= convs
    assert all(t.ms >= 0 for t in times)
    assert sum(t.ms for t in times) > 0


def test_integer_kernels_and_conversions_are_told_apart(
    tmp_path: Path, feeds: list[dict[str, nets.Array]]
) -> None:
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "m.onnx", keep_float={"b1.c2": "for a border"})
    options = QuantizeOptions("onnxruntime")
    quantize(file, nets.samples(proto), tmp_path / "q.onnx", options)
    times = profile(tmp_path / "q.onnx", feeds, runs=2)
    assert [t.tensor for t in times if not t.tensor] == []
    assert "stem_out" in {t.tensor for t in times if t.op_type == "QLinearConv"}
    borders = {t.tensor for t in times if t.op_type == "DequantizeLinear"}
    assert "b1.c1/relu_out/dequantized" in borders


def test_a_file_that_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="ONNX Runtime does not take"):
        profile(tmp_path / "m.onnx", [])
