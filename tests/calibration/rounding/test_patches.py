"""Rows times matrix against torch's convolutions, for every geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph.queries import Weighted, weighted
from calibration.rounding.patches import Product, product_of


def item(op_type: str, weight: Any, **attributes: Any) -> Weighted:
    tensor = ir.tensor(np.ascontiguousarray(weight, np.float32), name="w")
    node = ir.node(op_type, [ir.val("x"), ir.val("w", const_value=tensor)], attributes, name="n")
    found = weighted(node)
    assert isinstance(found, Weighted)
    return found


def agrees(product: Product | str, weight: Any, x: Any, expected: Any) -> None:
    assert isinstance(product, Product)
    count = product.count(expected.shape)
    positions = np.random.default_rng(0).permutation(count)[: max(count // 2, 1)]
    rows = product.rows(x, expected.shape, positions)
    made = np.einsum("ngk,gok->ngo", rows.astype(np.float64), product.matrix(weight))
    # float32 sums of at most a few hundred products of order one
    np.testing.assert_allclose(made, product.chosen(expected, positions), atol=1e-4)
    np.testing.assert_array_equal(product.weight(product.matrix(weight)), weight)


@settings(max_examples=60, deadline=None)
@given(
    axes=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pad=st.integers(0, 2),
    transposed=st.booleans(),
    extra=st.integers(0, 2),
)
def test_convolutions_of_every_geometry(
    axes: int,
    groups: int,
    kernel: int,
    stride: int,
    dilation: int,
    pad: int,
    transposed: bool,
    extra: int,
) -> None:
    random = np.random.default_rng(axes * 100 + kernel)
    pad = min(pad, dilation * (kernel - 1))
    x = random.standard_normal((2, 4, *(5 + axis for axis in range(axes)))).astype(np.float32)
    shape = (4, 8 // groups) if transposed else (8, 4 // groups)
    weight = random.standard_normal((*shape, *[kernel] * axes)).astype(np.float32)
    function = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
    options: dict[str, Any] = {"stride": stride, "padding": pad, "dilation": dilation}
    attributes = {
        "strides": [stride] * axes,
        "dilations": [dilation] * axes,
        "pads": [pad] * 2 * axes,
        "group": groups,
    }
    if transposed:
        options["output_padding"] = min(extra, max(stride, dilation) - 1)
        attributes["output_padding"] = [options["output_padding"]] * axes
    if not transposed and dilation * (kernel - 1) + 1 > 5 + 2 * pad:
        return  # the kernel does not fit
    expected = getattr(F, function)(
        torch.from_numpy(x), torch.from_numpy(weight), groups=groups, **options
    ).numpy()
    if 0 in expected.shape:
        return
    op_type = "ConvTranspose" if transposed else "Conv"
    agrees(product_of(item(op_type, weight, **attributes)), weight, x, expected)


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [("MatMul", (6, 5), {}), ("Gemm", (6, 5), {}), ("Gemm", (5, 6), {"transB": 1})],
)
def test_matrix_products(op_type: str, shape: tuple[int, int], attributes: dict[str, int]) -> None:
    random = np.random.default_rng(3)
    weight = random.standard_normal(shape).astype(np.float32)
    x = random.standard_normal((4, 6) if op_type == "Gemm" else (2, 3, 6)).astype(np.float32)
    expected = x @ (weight.T if attributes else weight)
    agrees(product_of(item(op_type, weight, **attributes)), weight, x, expected)


def test_what_is_no_product_says_why() -> None:
    weight = np.zeros((2, 3, 4), np.float32)
    assert product_of(item("MatMul", weight)) == "a batch of matrices"
    kernel = np.zeros((2, 3, 2, 2), np.float32)
    reason = product_of(item("ConvTranspose", kernel, output_shape=[5, 5]))
    assert reason == "ConvTranspose with output_shape"
