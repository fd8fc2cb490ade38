"""The layer at fault is found by what it loses alone, and a contract that is lost names it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks.provoked_loss import (
    POINT,
    RECIPE,
    double_scale,
    judged,
    quantized_layers,
    spoiling,
)
from calibration.samples import InMemorySamples
from deploy import Recipe, run
from deploy.boundaries import MOST_SAMPLES, compare_layers
from deploy.contract.contracts import Contract
from deploy.contract.markdown import escaped
from deploy.layers_alone import MOST_TRIED, worst_first
from deploy.verification import verify

from .conftest import Mini
from .test_pipeline import recipe_for

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4] x) => (float[1, 4] y) {{
  {body}
}}
"""


def chain(path: Path, *, quantized: bool) -> Path:
    """x W1 W2 with weights of eighths; quantized, W1 and what is between have a scale of 1/8."""
    rng = np.random.default_rng(0)
    weights = [rng.integers(-8, 9, (4, 4)).astype(np.float32) / 8 for _ in range(2)]
    steps = {"s": np.float32(1 / 8), "z": np.int8(0)}
    body = "h = MatMul(x, w0) y = MatMul(h, w1)"
    if quantized:
        body = """q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
          v = DequantizeLinear(w0, t, z) h = MatMul(d, v)
          p = QuantizeLinear(h, s, z) e = DequantizeLinear(p, s, z) y = MatMul(e, w1)"""
    model = onnx.parser.parse_model(CHAIN.format(body=body))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.output[0]}/{node.op_type}_{index}"
    named: dict[str, np.ndarray | np.generic] = {"w0": weights[0], "w1": weights[1]}
    if quantized:
        named |= {"w0": (weights[0] * 8).astype(np.int8), "t": np.float32(1 / 8), **steps}
    for name, value in named.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, path)
    return path


def decibels(reference: np.ndarray, found: np.ndarray) -> float:
    noise = float(np.square(reference - found, dtype=np.float64).sum())
    return float(10 * np.log10(float(np.square(reference, dtype=np.float64).sum()) / noise))


def test_the_own_error_is_that_of_numpy(tmp_path: Path) -> None:
    paths = [chain(tmp_path / f"{q}.onnx", quantized=q) for q in (False, True)]
    rng = np.random.default_rng(1)
    samples = [{"x": rng.normal(size=(1, 4)).astype(np.float32)} for _ in range(3)]
    found = compare_layers(paths[0], paths[1], InMemorySamples(samples)).alone
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(paths[0]).graph.initializer}
    x = np.concatenate([sample["x"] for sample in samples])

    def rounded(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(np.rint(values * 8), -128, 127) / 8)

    hidden = x @ tensors["w0"]
    expected = [
        decibels(x, rounded(x)),
        decibels(hidden, rounded(rounded(x) @ tensors["w0"])),
        decibels(hidden @ tensors["w1"], rounded(hidden) @ tensors["w1"]),  # from the true hidden
    ]
    assert [layer.op_type for layer in found] == ["input", "MatMul", "MatMul"]
    assert [layer.tensor for layer in found] == ["x", "h", "y"]
    np.testing.assert_allclose([layer.error.sqnr_db for layer in found], expected, atol=1e-3)


def test_the_first_samples_are_run(tmp_path: Path) -> None:
    paths = [chain(tmp_path / f"{q}.onnx", quantized=q) for q in (False, True)]
    rng = np.random.default_rng(2)
    samples = [{"x": rng.normal(size=(1, 4)).astype(np.float32)} for _ in range(MOST_SAMPLES + 5)]
    few, many = (
        compare_layers(paths[0], paths[1], InMemorySamples(samples[:n])).layers
        for n in (MOST_SAMPLES, MOST_SAMPLES + 5)
    )
    assert few == many


def spoiled(file: Path, node: str, folder: Path) -> Path:
    path = folder / file.name
    shutil.copy(file, path)
    double_scale(path, node)
    return path


@pytest.mark.parametrize("policy", ["onnxruntime", "tensorrt"])
def test_a_layer_whose_scale_was_doubled_is_first_by_itself(
    mini: Mini, policy: str, tmp_path: Path
) -> None:
    file = mini.int8 if policy == "onnxruntime" else mini.int8_tensorrt
    layers = list(quantized_layers(file))
    chosen = [layers[0], layers[len(layers) // 2], layers[-1]]
    accumulated: list[bool] = []
    for node in chosen:
        path = spoiled(file, node, tmp_path)
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])  # still valid
        comparison = verify(mini.fp32, path, mini.evaluation, layers=True)
        assert comparison.layers is not None
        alone = worst_first(comparison.layers.alone)
        assert alone[0].node == node
        assert alone[0].error.sqnr_db < 3 < alone[1].error.sqnr_db
        fidelities = [layer.outputs_db for layer in alone[:MOST_TRIED]]
        assert fidelities == sorted(db for db in fidelities if db is not None)
        worst = comparison.layers.worst_first[0]
        accumulated.append(worst.tensor == alone[0].tensor)
    assert not all(accumulated), "with all before it, another layer looks worse"


def first_line(checks: Sequence[object]) -> str:
    return next(str(check) for check in checks if "missed" in str(check))


def test_a_contract_that_is_missed_names_the_layer(mini: Mini, tmp_path: Path) -> None:
    node = list(quantized_layers(mini.int8))[5]
    contract = Contract(require=["agreement>=0.999", "model_mb<=0.001"])
    comparison = verify(
        mini.fp32,
        spoiled(mini.int8, node, tmp_path),
        mini.evaluation,
        layers=True,
        contract=contract,
    )
    said = first_line(comparison.verdict.checks)
    assert f": missed; by itself loses most: {node} (" in said
    whole = verify(mini.fp32, mini.int8, mini.evaluation, contract=contract)
    assert not any("by itself" in check.note for check in whole.verdict.checks)


def test_the_bundle_of_a_spoiled_recipe_names_the_layer_everywhere(
    mini: Mini, tmp_path: Path
) -> None:
    node = list(quantized_layers(mini.int8))[5]
    recipe = recipe_for(
        mini, benchmark=None, verify={"scenes": 0}, contract={"require": ["agreement>=0.999"]}
    )
    with spoiling(node):
        bundle = run(recipe, tmp_path / "bundle")
    assert bundle.report["verdict"]["status"] == "fail"
    words = f"by itself loses most: {node} ("
    assert escaped(words) in (bundle.path / "verdict.md").read_text()
    assert words in (bundle.path / "junit.xml").read_text()
    page = bundle.page.read_text()
    assert f"<code>{node}</code>" in page.partition("The layers that lose most by themselves")[2]


@pytest.mark.slow
def test_a_trained_network_that_loses_a_point_names_the_layer(tmp_path: Path) -> None:
    """As ``benchmarks/provoked_loss.py`` over many layers: here one, on twelve frames, in a bundle.

    The intact file keeps its contract; with one scale doubled the same recipe does not, and says
    whose it is.
    """
    node = "img_backbone/layer1.0/conv2/Conv"
    recipe = Recipe.model_validate(
        {
            **RECIPE,
            "samples": {"calibration": "synthetic:8:1", "evaluation": "synthetic:12:1000"},
            "quantization": {"scales": "percentile", "policies": ["onnxruntime"]},
            "contract": {"require": ["miou>=fp32-2"]},  # what twelve frames can decide
        }
    )
    intact = judged(run(recipe, tmp_path / "intact").report["verdict"], node)
    assert intact["verdict"] == "pass"
    with spoiling(node):
        bundle = run(recipe, tmp_path / "spoiled")
    spoiled = judged(bundle.report["verdict"], node)
    assert spoiled["verdict"] != "pass"
    assert spoiled["miou_loss_points"] > intact["miou_loss_points"] + POINT
    assert spoiled["named_first"]
    assert f"by itself loses most: {escaped(node)} (" in (bundle.path / "verdict.md").read_text()
