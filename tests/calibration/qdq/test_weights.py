"""Integer weights and biases against float64 arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from calibration.graph.queries import Weighted, weighted
from calibration.qdq.weights import IntegerWeights, integer_weights
from calibration.scales.methods import SILENT_SCALE


def described(
    op_type: str, weight: NDArray[Any], bias: NDArray[Any] | None = None, **attributes: Any
) -> Weighted:
    def value(name: str, array: NDArray[Any]) -> ir.Value:
        return ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))

    inputs = [ir.val("x"), value("w", weight)]
    if bias is not None:
        inputs.append(value("b", bias))
    found = weighted(ir.node(op_type, inputs, attributes, name="n"))
    assert isinstance(found, Weighted)
    return found


def integers(
    item: Weighted, *, bias: bool = False, half: bool = False, step: float = 0.1
) -> IntegerWeights:
    return integer_weights(item, step if bias else None, half=half)


@pytest.mark.parametrize(
    ("op_type", "shape", "axis", "attributes"),
    [
        ("Conv", (4, 3, 3, 3), 0, {}),
        ("ConvTranspose", (3, 4, 2, 2), 1, {}),
        ("Gemm", (5, 4), 1, {}),
        ("Gemm", (4, 5), 0, {"transB": 1}),
        ("MatMul", (5, 4), 1, {}),
    ],
)
def test_every_output_channel_has_its_own_scale(
    op_type: str, shape: tuple[int, ...], axis: int, attributes: dict[str, Any]
) -> None:
    weight = np.random.default_rng(0).standard_normal(shape)
    item = described(op_type, weight, **attributes)
    result = integers(item)
    assert item.channel_axis == axis
    others = tuple(i for i in range(len(shape)) if i != axis)
    np.testing.assert_allclose(result.scale, np.abs(weight).max(axis=others) / 127, rtol=1e-6)
    assert result.weight.dtype == np.int8
    assert (np.abs(result.weight).max(axis=others) == 127).all()
    step = np.expand_dims(result.scale, others)
    # nearest: never further than half a step, plus float32's rounding of the scale
    assert (np.abs(result.weight * step - weight) <= step * 0.5001).all()


def test_batched_matmul_weights_share_one_scale() -> None:
    result = integers(described("MatMul", np.ones((2, 5, 4))))
    assert result.scale.shape == ()


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.ones((2, 3, 1, 1))
    weight[1] = 0
    result = integers(described("Conv", weight))
    assert (result.weight[1] == 0).all()
    assert result.scale[1] == np.float32(SILENT_SCALE)


def test_an_integer_bias_counts_in_steps_of_the_accumulator() -> None:
    bias = np.array([0.5, -0.25])
    result = integers(described("Conv", np.ones((2, 3, 1, 1)), bias), bias=True, step=0.01)
    assert result.bias is not None
    assert result.bias_scale is not None
    np.testing.assert_array_equal(result.bias_scale, result.scale * np.float32(0.01))
    np.testing.assert_allclose(result.bias * result.bias_scale, bias, atol=result.bias_scale.max())


def test_tiny_weights_beside_a_large_bias_do_not_overflow_int32() -> None:
    weight = np.full((1, 3, 1, 1), 1e-12)
    result = integers(described("Conv", weight, np.array([100.0])), bias=True, step=1e-3)
    assert result.bias is not None
    assert result.bias_scale is not None
    assert abs(int(result.bias[0])) <= 2**30
    assert float(result.bias[0] * result.bias_scale[0]) == pytest.approx(100.0, rel=1e-6)


def test_a_float_bias_is_left_alone() -> None:
    assert integers(described("Conv", np.ones((2, 3, 1, 1)), np.ones(2))).bias is None


def test_half_scales_are_fp16_numbers() -> None:
    result = integers(
        described("Conv", np.random.default_rng(1).standard_normal((8, 3, 3, 3))), half=True
    )
    np.testing.assert_array_equal(result.scale, result.scale.astype(np.float16))
    assert np.abs(result.weight).max() <= 127
