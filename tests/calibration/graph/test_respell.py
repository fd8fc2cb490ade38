"""Softplus written out is the same function, and only where it cannot overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import QuantizeOptions, QuantizeResult, quantize
from calibration.samples.base import InMemorySamples
from tests.calibration import nets


def quantized(tmp_path: Path, policy: str, factor: float = 1.0) -> QuantizeResult:
    net = nets.Net([1, 3, 8, 8])
    soft = net.node("soft", "Softplus", net.conv("c", "x", (3, 4), relu=False))
    proto = net.model(net.conv("d", soft, (4, 2), relu=False))
    file = nets.saved(proto, tmp_path / "n.onnx")
    samples = InMemorySamples([{"x": s["x"] * np.float32(factor)} for s in nets.samples(proto)])
    return quantize(file, samples, tmp_path / "q.onnx", QuantizeOptions(policy, scales="minmax"))


def test_softplus_on_8_bits_is_written_as_log_of_exp(tmp_path: Path) -> None:
    result = quantized(tmp_path, "onnxruntime")
    ops = [node.op_type for node in result.model.proto.graph.node]
    assert "Softplus" not in ops
    assert [r["node"] for r in result.report["respelled"]] == ["soft"]
    x = next(iter(nets.samples(result.model.proto, 1)))
    before, after = nets.run(result.model, x, "c_out/dequantized", "soft_out")
    # 1 + e^x rounds once in float32
    np.testing.assert_allclose(
        after, np.logaddexp(0, before.astype(np.float64)), atol=3e-7, rtol=1e-6
    )


@pytest.mark.parametrize(("policy", "factor"), [("tensorrt", 1.0), ("onnxruntime", 1000.0)])
def test_softplus_stays_where_it_is_fast_or_could_overflow(
    tmp_path: Path, policy: str, factor: float
) -> None:
    result = quantized(tmp_path, policy, factor)
    assert "Softplus" in [node.op_type for node in result.model.proto.graph.node]
    assert result.report["respelled"] == []


def test_a_bias_of_a_matmul_is_subtracted_negated(tmp_path: Path) -> None:
    """Bit by bit the same, and ONNX Runtime keeps the product on integers."""
    net = nets.Net([2, 5, 16])
    bias = net.constant("b", np.linspace(-1, 1, 8, dtype=np.float32))
    shared = net.node("other", "Add", "b", net.node("mean", "ReduceMean", "x", keepdims=0))
    y = net.node("add", "Add", bias, net.node("mm", "MatMul", "x", net.weight("w", 16, 8)))
    proto = net.model(net.node("end", "Softmax", y, axis=-1), shared)
    file = nets.saved(proto, tmp_path / "m.onnx")
    samples = nets.samples(proto)
    options = QuantizeOptions("onnxruntime", scales="minmax")
    result = quantize(file, samples, tmp_path / "q.onnx", options)
    assert [(r["node"], r["op_type"]) for r in result.report["respelled"]] == [("add", "Add")]
    executed = nets.optimized(result.model.path, tmp_path / "o.onnx").graph.node
    ops = {node.op_type for node in executed}
    assert "MatMulIntegerToFloat" in ops
    assert not ops & {"Gemm", "MatMul"}
    x = next(iter(samples))
    product, total = nets.run(result.model, x, "mm_out", "add_out")
    np.testing.assert_array_equal(total, product + np.linspace(-1, 1, 8, dtype=np.float32))


def test_a_bias_stays_where_the_product_is_float(tmp_path: Path) -> None:
    net = nets.Net([2, 16])
    a = net.node("m1", "MatMul", "x", net.weight("w1", 16, 8))
    b = net.node("m2", "MatMul", net.node("r", "Relu", a), net.weight("w2", 8, 8))
    proto = net.model(net.node("add", "Add", b, net.constant("b", np.ones(8, np.float32))))
    file = nets.saved(proto, tmp_path / "m.onnx")
    options = QuantizeOptions("onnxruntime", scales="minmax", keep_float=("m2",))
    result = quantize(file, nets.samples(proto), tmp_path / "q.onnx", options)
    assert result.report["respelled"] == []
