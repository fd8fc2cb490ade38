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
from calibration.scales.methods import Scale
from calibration.scales.trial import Trial
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
    return Trial(job, model, WeightGrids(job.form, {}), 4), scales, pairs


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


def test_labels_of_the_input_itself_tell_nothing(tmp_path: Path) -> None:
    net = nets.Net([1, 4, 8, 8])
    net.conv("conv", "x", (4, 8))
    proto = net.model(net.node("argmax", "ArgMax", "x", axis=1), dtype=onnx.TensorProto.INT64)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    samples = InMemorySamples([{"x": np.ones((1, 4, 8, 8), np.float32)}])
    job = Job(ModelFile(path), QuantizeOptions("tensorrt"), samples, None)
    assert len(Trial(job, job.prepared(), WeightGrids(job.form, {}), 1)) == 0
