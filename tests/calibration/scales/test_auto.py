"""``--scales auto``: the measured noise against numpy, the choice against every method alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration import QuantizeOptions, QuantizeResult, observe, quantize
from calibration.graph.prepare import prepare
from calibration.observing.probe import SILENT_SHARE
from calibration.qdq.policies import POLICIES
from calibration.samples.base import InMemorySamples
from calibration.scales.auto import FOR_INPUTS, PROPOSERS, Choice, choose_by_output
from calibration.scales.methods import SCALES, IntegerForm, Scale
from calibration.scales.rivals import RIVALS
from exporters.errors import UserError
from tests.calibration import nets

Array = NDArray[Any]
BOTH = ["tensorrt", "onnxruntime"]


def heavy_tailed() -> onnx.ModelProto:
    """Two convolutions whose inputs are spiky: a bias that pushes most of one channel to zero."""
    net = nets.Net([1, 4, 12, 12])
    first = net.conv("first", "x", (4, 8), 1)
    second = net.conv("second", first, (8, 8), 1)
    third = net.conv("third", second, (8, 8), 1)
    return net.model(net.node("soft", "Softmax", third, axis=1))


def spiky(proto: onnx.ModelProto, count: int = 6, seed: int = 3) -> InMemorySamples:
    """Student-t inputs: a few huge values above a narrow bulk."""
    random = np.random.default_rng(seed)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return InMemorySamples(
        {"x": random.standard_t(2, size=shape).astype(np.float32)} for _ in range(count)
    )


def choices(
    tmp_path: Path, proto: onnx.ModelProto, policy: str, criterion: str = "energy"
) -> dict[str, Choice]:
    file = nets.saved(proto, tmp_path / "net.onnx")
    samples = spiky(proto)
    model = prepare(proto)
    chosen = POLICIES.get(policy)
    placement = chosen.place(model.graph, _no_rules())
    groups = placement.groups()
    found = choose_by_output(
        model,
        groups,
        placement,
        observe(file, samples),
        samples,
        policy=chosen,
        spec=None,
        half=False,
        max_samples=len(samples),
    )
    chosen_by = getattr(found, criterion)
    return {g[0].name or "": c for g, c in zip(groups, chosen_by, strict=True)}


def _no_rules() -> Any:
    from calibration.qdq.placement import FloatRules

    return FloatRules()


def relative_by_position(error: Array, true: Array) -> float:
    """Mean over samples and positions of the noise over the energy, floored at 1 % of the mean."""
    noise, energy = np.sum(error**2, axis=1), np.sum(true**2, axis=1)
    floor = SILENT_SHARE * energy.mean(axis=(1, 2), keepdims=True)
    return float(np.mean(noise / (energy + floor)))


@pytest.mark.parametrize("policy", BOTH)
@pytest.mark.parametrize("criterion", ["energy", "position"])
def test_noise_is_that_of_the_readers_output(tmp_path: Path, policy: str, criterion: str) -> None:
    """The tensor rounded, then weights, bias and ReLU in float64."""
    proto = heavy_tailed()
    choice = choices(tmp_path, proto, policy, criterion)["first/relu_out"]
    assert len(choice.noise) > 1
    seen = observe(tmp_path / "net.onnx", spiky(proto)).tensors["first/relu_out"]
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    weight = arrays["second.weight"][:, :, 0, 0].astype(np.float64)
    bias = arrays["second.bias"].astype(np.float64)
    x = np.concatenate(
        [nets.run(proto, dict(sample), "first/relu_out")[0] for sample in spiky(proto)]
    ).astype(np.float64)

    def second(values: Array) -> Array:
        return np.maximum(np.einsum("oc,nchw->nohw", weight, values) + bias[:, None, None], 0)

    for name, noise in choice.noise.items():
        form = POLICIES.get(policy).form
        scale = Scale.of(SCALES.get(name).range_of(seen, form), form)
        low, high = (-128, 127) if form is IntegerForm.INT8_SYMMETRIC else (0, 255)
        q = np.clip(np.rint(x / scale.scale) + scale.zero_point, low, high) - scale.zero_point
        error = second(q * scale.scale) - second(x)
        # the probe runs all samples here, so what is left is the histogram's bin width
        expected = np.sum(error**2) / np.sum(second(x) ** 2)
        if criterion == "position":
            expected = relative_by_position(error, second(x))
        assert noise == pytest.approx(expected, rel=0.02)
    assert choice.method == min(choice.noise, key=lambda name: choice.noise[name])


@pytest.mark.parametrize("policy", BOTH)
def test_auto_is_as_good_as_the_best_method_layer_by_layer(tmp_path: Path, policy: str) -> None:
    found = choices(tmp_path, heavy_tailed(), policy)
    assert found["x"].method in PROPOSERS
    for choice in found.values():
        assert choice.noise.get(choice.method, 0.0) == min(choice.noise.values(), default=0.0)
    assert all(c.method == "mse" for c in found.values() if not c.noise)


def make(tmp_path: Path, policy: str, scales: str, **options: Any) -> QuantizeResult:
    proto = heavy_tailed()
    file = nets.saved(proto, tmp_path / "net.onnx")
    wanted = QuantizeOptions(policy, scales, overwrite=True, **options)
    return quantize(file, spiky(proto), tmp_path / f"{policy}-{scales}.onnx", wanted)


@pytest.mark.parametrize("policy", BOTH)
def test_the_whole_network_is_at_least_nearly_as_good_as_with_any_method(
    tmp_path: Path, policy: str
) -> None:
    proto = heavy_tailed()
    held_out = [dict(sample) for sample in spiky(proto, 4, seed=8)]
    truth = np.concatenate([nets.run(proto, feed, "third/relu_out")[0] for feed in held_out])
    sqnr = {}
    for scales in (*PROPOSERS, "auto"):
        model = make(tmp_path, policy, scales).model
        outputs = [nets.run(model, feed, "third/relu_out")[0] for feed in held_out]
        sqnr[scales] = nets.sqnr_db(truth, np.concatenate(outputs))
    assert sqnr["auto"] >= max(sqnr.values()) - 1.0


def test_the_report_names_the_methods(tmp_path: Path) -> None:
    report = make(tmp_path, "onnxruntime", "auto").report
    assert report["scales"] == "auto"
    assert sum(report["scale_methods"].values()) == len(report["scale_method_of"]) > 0
    assert set(report["scale_methods"]) <= {*PROPOSERS, *RIVALS}
    assert report["scale_method_of"].get("x", "mse") in FOR_INPUTS
    assert make(tmp_path, "onnxruntime", "mse").report["scale_methods"] == {}


@pytest.mark.parametrize("scales", [name for name in SCALES if name != "auto"])
def test_a_method_alone_leaves_the_input_its_full_range(tmp_path: Path, scales: str) -> None:
    result = make(tmp_path, "tensorrt", scales)
    scale = {t.name: numpy_helper.to_array(t) for t in result.model.proto.graph.initializer}
    largest = max(float(np.abs(sample["x"]).max()) for sample in spiky(heavy_tailed()))
    assert scale["x/scale"] == pytest.approx(largest / 127, rel=1e-6)


def test_auto_never_clips_an_input_by_divergence(tmp_path: Path) -> None:
    """Even where that would look best: the report would say so."""
    choice = choices(tmp_path, heavy_tailed(), "tensorrt")["x"]
    assert choice.method in FOR_INPUTS
    assert not {"kl-r", "entropy"} & (set(choice.noise) | set(FOR_INPUTS))


@pytest.mark.parametrize("policy", BOTH)
def test_auto_with_fp16_scales_and_splits_is_deterministic(tmp_path: Path, policy: str) -> None:
    options: dict[str, Any] = {"split": "cfws"}
    if policy == "tensorrt":
        options["rest"] = "fp16"
    first = make(tmp_path, policy, "auto", **options).model.sha256
    assert make(tmp_path, policy, "auto", **options).model.sha256 == first


def test_statistics_with_samples_save_the_pass_and_change_nothing(tmp_path: Path) -> None:
    proto = heavy_tailed()
    file = nets.saved(proto, tmp_path / "net.onnx")
    samples = spiky(proto)
    options = QuantizeOptions("onnxruntime", "auto")
    alone = quantize(file, samples, tmp_path / "a.onnx", options)
    seen = observe(file, samples)
    shared = quantize(file, samples, tmp_path / "b.onnx", options, statistics=seen)
    assert alone.model.sha256 == shared.model.sha256
    with pytest.raises(UserError, match="statistics are of other samples"):
        quantize(file, spiky(proto, seed=4), tmp_path / "c.onnx", options, statistics=seen)


def test_without_samples_auto_takes_the_tensors_own_error(tmp_path: Path) -> None:
    proto = heavy_tailed()
    file = nets.saved(proto, tmp_path / "net.onnx")
    seen = observe(file, spiky(proto))
    auto = quantize(file, seen, tmp_path / "a.onnx", QuantizeOptions(scales="auto"))
    mse = quantize(file, seen, tmp_path / "b.onnx", QuantizeOptions(scales="mse"))
    assert auto.report["scale_methods"] == {}
    numbers = [
        {t.name: numpy_helper.to_array(t).tobytes() for t in r.model.proto.graph.initializer}
        for r in (auto, mse)
    ]
    assert numbers[0] == numbers[1]
