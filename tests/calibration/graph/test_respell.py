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
