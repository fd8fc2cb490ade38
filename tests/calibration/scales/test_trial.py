"""Outputs of a rounded network against the float one: numbers as in the file, and by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from calibration import QuantizeOptions, quantize
from calibration.job import Job
from calibration.qdq.policies import POLICIES
from calibration.rounding.twin import WeightGrids
from calibration.samples.base import InMemorySamples
from calibration.samples.subset import spread
from calibration.scales.methods import Scale
from calibration.scales.trial import FloatRun, Trial
from exporters.modelfile import ModelFile
from tests.calibration import nets

CLASSES = 5


def labelled(*, softmax: bool) -> onnx.ModelProto:
    """Logits [1, 5, 8, 8] of which labels are made; the last class is expected nowhere."""
    net = nets.Net([1, 4, 8, 8])
    hidden = net.conv("hidden", "x", (4, 8))
    logits = net.conv("logits", hidden, (8, CLASSES), 1, relu=False)
    low = np.array([0, 0, 0, 0, -30], np.float32).reshape(1, CLASSES, 1, 1)
    logits = net.node("shifted", "Add", logits, net.constant("low", low))
    if softmax:
        logits = net.node("shares", "Softmax", logits, axis=1)
    labels = net.node("argmax", "ArgMax", logits, axis=-3, keepdims=0)
    return net.model(
        net.node("flipped", "Transpose", labels, perm=[0, 2, 1]), dtype=onnx.TensorProto.INT64
    )


def plain() -> onnx.ModelProto:
    net = nets.Net([1, 4, 8, 8])
    hidden = net.conv("hidden", "x", (4, 8))
    return net.model(net.conv("last", hidden, (8, CLASSES), 1, relu=False))


def trial_of(job: Job, count: int) -> Trial:
    assert job.samples is not None
    model = job.prepared()
    run = FloatRun(job, model, spread(job.samples, count))
    return Trial(job, model, WeightGrids(job.form, {}), run)


def tried(
    tmp_path: Path, proto: onnx.ModelProto, policy: str
) -> tuple[Trial, dict[Any, Scale], list[tuple[NDArray[Any], NDArray[Any]]]]:
    """A trial, the scales of a written file, and what that file gives on the same samples."""
    name = "shifted_out" if any(n.name == "shifted" for n in proto.graph.node) else "last_out"
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    file, samples = ModelFile(path), nets.samples(proto, 4)
    options = QuantizeOptions(policy, "minmax", correct_bias=False, i_know=("all",))
    made = quantize(file, samples, tmp_path / "q.onnx", options).model
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in made.proto.graph.initializer}
    job = Job(file, options, samples, None)
    model = job.prepared()
    placement = job.policy.place(model.graph, job.floats)
    form = POLICIES.get(policy).form
    scales = {
        value: Scale(
            float(constants[f"{value.name}/scale"]),
            int(constants[f"{value.name}/zero_point"]),
            form,
        )
        for value in placement.tensors
    }
    pairs = [
        (nets.run(proto, dict(feed), name)[0], nets.run(made, dict(feed), name)[0])
        for feed in samples
    ]
    return trial_of(job, 4), scales, pairs


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_numbers_are_judged_by_energy(tmp_path: Path, policy: str) -> None:
    trial, scales, pairs = tried(tmp_path, plain(), policy)
    expected = [nets.sqnr_db(real, made) for real, made in pairs]
    # the file's biases are int32: a millionth of the range, far below the rounding of activations
    assert trial.fidelities_db(scales).mean() == pytest.approx(np.mean(expected), abs=0.1)
    some = trial.fidelities_db(scales, slice(1, 3))
    assert some == pytest.approx(expected[1:3], abs=0.1)
    assert len(trial) == 4


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("softmax", [False, True])
def test_labels_are_judged_by_class(
    tmp_path: Path, softmax: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 positions all, or every third along the longest axis, the first of its length."""
    monkeypatch.setattr("calibration.scales.fidelity.POSITIONS", math.ceil(64 / step))
    monkeypatch.setattr("calibration.scales.fidelity.FEWEST_ALONG", 2)
    trial, scales, pairs = tried(tmp_path, labelled(softmax=softmax), "tensorrt")
    expected = []
    for logits in pairs:
        p, r = (np.exp(x[:, :, ::step].astype(np.float64)) for x in logits)
        p, r = p / p.sum(axis=1, keepdims=True), r / r.sum(axis=1, keepdims=True)
        overlap = [
            np.minimum(p[:, c], r[:, c]).sum() / np.maximum(p[:, c], r[:, c]).sum()
            for c in range(CLASSES)
            if p[:, c].sum() >= 1
        ]
        assert len(overlap) < CLASSES, "one class is expected nowhere"
        expected.append(-10 * np.log10(1 - np.mean(overlap)))
    assert trial.fidelities_db(scales).mean() == pytest.approx(np.mean(expected), abs=0.1)


def test_the_same_session_takes_other_scales(tmp_path: Path) -> None:
    trial, scales, _ = tried(tmp_path, plain(), "tensorrt")
    coarse = {value: Scale(s.scale * 8, s.zero_point, s.form) for value, s in scales.items()}
    good, bad = trial.fidelities_db(scales).mean(), trial.fidelities_db(coarse).mean()
    assert bad < good - 10  # three bits less, 6 dB each
    assert trial.fidelities_db(scales).mean() == good


def test_the_rounding_of_the_logits_themselves_counts(tmp_path: Path) -> None:
    """Where integer kernels make them, labels are read from rounded logits."""
    net = nets.Net([1, 4, 8, 8])
    logits = net.conv("logits", net.conv("hidden", "x", (4, 8)), (8, CLASSES), 1, relu=False)
    labels = net.node("labels", "ArgMax", logits, axis=1, keepdims=0)
    proto = net.model(labels, dtype=onnx.TensorProto.INT64)
    file = nets.saved(proto, tmp_path / "net.onnx")
    job = Job(file, QuantizeOptions("onnxruntime"), nets.samples(proto, 4), None)
    model = job.prepared()
    placed = job.policy.place(model.graph, job.floats).tensors
    assert "logits_out" in {value.name for value in placed}
    form = job.policy.form
    fine = {value: Scale(0.05, 128, form) for value in placed}
    coarse = {v: Scale(0.4 if v.name == "logits_out" else 0.05, 128, form) for v in placed}
    trial = trial_of(job, 4)
    assert trial.fidelities_db(coarse).mean() < trial.fidelities_db(fine).mean() - 1


def test_labels_of_the_input_itself_tell_nothing(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    net.conv("conv", "x", (4, 8))
    proto = net.model(net.node("argmax", "ArgMax", "x", axis=1), dtype=onnx.TensorProto.INT64)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    samples = InMemorySamples([{"x": np.ones((1, 4, 8, 8), np.float32)}])
    job = Job(ModelFile(path), QuantizeOptions("tensorrt"), samples, None)
    assert len(FloatRun(job, job.prepared(), samples)) == 0


def test_heads_count_where_something_is_likely(tmp_path: Path) -> None:
    """Numbers of a map are weighted by the chances beside them, and those by themselves."""
    net = nets.Net([1, 4, 8, 8])
    hidden = net.conv("hidden", "x", (4, 8))
    chance = net.conv("chance", hidden, (8, 1), 1, relu=False)
    box = net.conv("box", hidden, (8, 3), 1, relu=False)
    score = net.node("score", "Sigmoid", chance)
    flat = net.node("line", "Reshape", score, net.constant("flat", np.array([1, -1], np.int64)))
    k = net.constant("k", np.array([7], np.int64))
    net.nodes.append(onnx.helper.make_node("TopK", [flat, k], ["best", "at"], name="topk"))
    rows = net.node("rows", "Reshape", box, net.constant("three", np.array([3, -1], np.int64)))
    first = net.node("first", "Squeeze", "at", net.constant("zero", np.array([0], np.int64)))
    proto = net.model("best", net.node("picked", "Gather", rows, first, axis=1))
    file, samples = nets.saved(proto, tmp_path / "net.onnx"), nets.samples(proto, 2)
    options = QuantizeOptions("tensorrt", "minmax", rounding="nearest", correct_bias=False)
    made = quantize(file, samples, tmp_path / "q.onnx", options).model
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in made.proto.graph.initializer}
    job = Job(file, options, samples, None)
    model = job.prepared()
    placement = job.policy.place(model.graph, job.floats)
    scales = {
        value: Scale(float(constants[f"{value.name}/scale"]), 0, job.policy.form)
        for value in placement.tensors
    }
    expected = []
    for feed in samples:
        real, blurred = (
            [array.astype(np.float64) for array in nets.run(m, feed, "chance_out", "box_out")]
            for m in (proto, made)
        )
        p, r = (1 / (1 + np.exp(-logits[0])) for logits in (real, blurred))
        overlap = np.sum(np.minimum(p, r) * p) / np.sum(np.maximum(p, r) * p)
        energy, noise = np.sum(real[1] ** 2 * p), np.sum((real[1] - blurred[1]) ** 2 * p)
        expected.append((-10 * np.log10(1 - overlap) + 10 * np.log10(energy / noise)) / 2)
    found = trial_of(job, 2).fidelities_db(scales)
    assert found == pytest.approx(expected, abs=0.1)
