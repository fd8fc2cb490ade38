"""Noise shares: planted culprits are found, shares add up, and who computes does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibration.graph.telling import Judged, Telling
from calibration.scales.fidelity import append_sums, real_of
from calibration.sensitivity.noise import (
    BROKEN,
    Workers,
    decibels,
    measure_atoms,
    noise_share,
    open_session,
    sums_of,
)
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.workbench import Workbench, atoms_of, serialized
from tests.calibration import nets
from tests.calibration.sensitivity import planted


def measured(bench: Workbench, **options: object) -> dict[str, float]:
    samples = nets.samples(bench.job.file.proto, 4)
    return measure_atoms(bench, samples, Notebook(None, {}), **options)  # type: ignore[arg-type]


def made(proto: onnx.ModelProto, tmp_path: Path, **options: object) -> Workbench:
    file = nets.saved(proto, tmp_path / "m.onnx", keep_float={"head": "kept"})
    return planted.bench(file, **options)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_loud_tensor_is_found(tmp_path: Path, policy: str) -> None:
    bench = made(planted.loud_tensor(), tmp_path, policy=policy, scales="minmax")
    noise = measured(bench)
    worst, second, *_ = sorted(noise, key=lambda name: -noise[name])
    assert worst == "tensor c2/relu_out"
    assert noise[worst] > 20 * noise[second]
    guilty = [u.name for u in bench.units if any(a.name == worst for a in atoms_of(u, bench))]
    # whoever makes integers has it too; TensorRT's convolutions hand on floats
    assert guilty == (["c2", "c3"] if policy == "onnxruntime" else ["c3"])


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_loud_weight_is_found(tmp_path: Path, policy: str) -> None:
    noise = measured(made(planted.loud_weight(), tmp_path, policy=policy))
    worst, second, *_ = sorted(noise, key=lambda name: -noise[name])
    assert worst == "weight c3"
    assert noise[worst] > 20 * noise[second]


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_shares_add_up_to_the_noise_of_the_whole(tmp_path: Path, policy: str) -> None:
    """1.5 dB: roundings are nearly, not wholly independent, and ReLU takes part of their mean."""
    file = nets.saved(planted.plain(), tmp_path / "m.onnx", keep_float={"head": "kept"})
    bench = planted.bench(file, policy=policy)
    together = ir.to_proto(bench.rounded(bench.atoms))
    pairs = [
        (nets.run(file, sample)[0], nets.run(together, sample)[0])
        for sample in nets.samples(file.proto, 4)
    ]
    whole = of_pairs(Telling("y", pairs[0][0].shape), *pairs)
    assert decibels(sum(measured(bench).values())) == pytest.approx(decibels(whole), abs=1.5)


def test_whoever_computes_the_numbers_are_the_same(tmp_path: Path) -> None:
    bench = made(planted.plain(), tmp_path, policy="onnxruntime")
    alone = measured(bench)
    shared = measured(bench, workers=Workers("joblib", jobs=2))
    # one thread against all: sums in another order
    assert shared == pytest.approx(alone, rel=1e-3)


def test_every_variant_is_measured_once(tmp_path: Path) -> None:
    bench = made(planted.plain(), tmp_path, policy="onnxruntime")
    samples = nets.samples(bench.job.file.proto, 4)
    told: list[tuple[str, int, int]] = []
    notebook = Notebook(tmp_path / "state.json", {"model": "m"})
    first = measure_atoms(bench, samples, notebook, progress=lambda *a: told.append(a))
    assert told[-1] == ("layers", len(bench.atoms), len(bench.atoms))
    told.clear()
    again = Notebook(tmp_path / "state.json", {"model": "m"})
    assert measure_atoms(bench, samples, again, progress=lambda *a: told.append(a)) == first
    assert told == []


def of_pairs(told: Telling, *pairs: tuple[nets.Array, nets.Array]) -> float:
    """The share of what a graph that judges ``told`` sums, for true and other arrays."""
    values = ir.val(told.name, ir.DataType.FLOAT, ir.Shape(told.shape))
    node = ir.node("Identity", [values])
    node.outputs[0].name = "made"
    graph = ir.Graph([values], [], nodes=[node], opset_imports={"": 18}, name="g")
    append_sums(graph, node.outputs[0], told)
    session = open_session(serialized(ir.Model(graph, ir_version=10)))
    rows = []
    for true, other in pairs:
        real = real_of([told], [true])
        seen = iter(session.run(None, {told.name: other, **real.given}))
        rows.append([sums_of(told, real.own[0], seen)])
    return noise_share([told], rows)


def test_a_share_is_the_relative_power_of_each_channel() -> None:
    true = np.ones([1, 2, 4, 4], np.float32)
    true[:, 1] = 10.0
    other = true.copy()
    other[:, 0] += 0.1  # 1 % of the first channel's power, 0.01 % of the second's
    assert of_pairs(Telling("y", true.shape), (true, other)) == pytest.approx(0.01 / 2, rel=1e-3)


def test_samples_are_pooled_so_that_a_silent_one_does_not_decide() -> None:
    loud, silent = np.ones([1, 8], np.float32), np.zeros([1, 8], np.float32)
    share = of_pairs(Telling("y", (1, 8)), (loud, loud), (silent, silent + np.float32(0.1)))
    assert share == pytest.approx(0.01, rel=1e-3)


def test_probabilities_count_by_what_is_missing_of_their_overlap() -> None:
    chances = np.array([[0.5, 0.5]], np.float32)
    other = np.array([[0.5, 0.25]], np.float32)
    logits = [np.log(p / (1 - p)) for p in (chances, other)]
    share = of_pairs(Telling("y", (1, 2), Judged.CHANCES), (logits[0], logits[1]))
    assert share == pytest.approx((0.25 / 1.0) ** 2, rel=1e-4)


def test_labels_are_judged_by_the_probabilities_behind_them(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    hidden = net.conv("hidden", "x", (4, 8))
    logits = net.conv("logits", hidden, (8, 5), 1, relu=False)
    labels = net.node("labels", "ArgMax", logits, axis=1, keepdims=0)
    proto = net.model(labels, dtype=onnx.TensorProto.INT64)
    noise = measured(made(proto, tmp_path, policy="onnxruntime"))
    assert all(0 < share < 0.1 for share in noise.values())


def test_picked_boxes_are_judged_by_the_heads_they_come_from(tmp_path: Path) -> None:
    """A rounding that only puts two boxes in the other order is no noise of that size."""
    net = nets.Net([1, 4, 8, 8])
    hidden = net.conv("hidden", "x", (4, 8))
    score = net.conv("score", hidden, (8, 1), 1, relu=False)
    box = net.conv("box", hidden, (8, 7), 1, relu=False)
    flat = net.constant("flat", np.array([1, -1], np.int64))
    line = net.node("chance", "Sigmoid", net.node("line", "Reshape", score, flat))
    k = net.constant("k", np.array([5], np.int64))
    net.nodes.append(onnx.helper.make_node("TopK", [line, k], ["best", "places"], name="topk"))
    rows = net.node("rows", "Reshape", box, net.constant("seven", np.array([7, -1], np.int64)))
    first = net.node("first", "Squeeze", "places", net.constant("zero", np.array([0], np.int64)))
    proto = net.model("best", net.node("picked", "Gather", rows, first, axis=1))
    noise = measured(made(proto, tmp_path, policy="onnxruntime"))
    # 8 bits: 40 dB or so of every rounding; by the picked rows themselves four came to 11 to 14 dB
    assert all(1e-9 < share < 1e-3 for share in noise.values())


def test_what_is_not_finite_is_broken() -> None:
    true = np.ones([1, 4], np.float32)
    told = Telling("y", true.shape)
    assert of_pairs(told, (true, true * np.float32(np.nan))) == BROKEN
    assert of_pairs(told, (true * 0, true)) == BROKEN
