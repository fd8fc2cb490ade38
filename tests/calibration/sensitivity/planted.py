"""A chain of convolutions in which one tensor, or one weight, is known to spoil INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from calibration.job import Job
from calibration.options import QuantizeOptions
from calibration.sensitivity.budget import Measured
from calibration.sensitivity.workbench import Workbench
from exporters.modelfile import ModelFile
from tests.calibration import nets

LAYERS = ("c0", "c1", "c2", "c3", "c4", "c5")
LOUD = 400.0


def plain() -> onnx.ModelProto:
    """Six convolutions with ReLU and a float head: ``[1, 3, 12, 12] -> [1, 4, 12, 12]``."""
    net = nets.Net([1, 3, 12, 12])
    x, channels = "x", 3
    for name in LAYERS:
        x = net.conv(name, x, (channels, 8))
        channels = 8
    return net.model(net.conv("head", x, (8, 4), 1, relu=False))


def loud_tensor(after: str = "c2", before: str = "c3") -> onnx.ModelProto:
    """One channel between two layers is far louder than the others, and nobody uses it.

    In INT8 one scale has to cover all channels of that tensor, so the others keep a level or two.
    The weights around it are as good as before.
    """
    proto = plain()
    scaled(proto, f"{after}.weight", np.s_[0], LOUD)
    scaled(proto, f"{after}.bias", np.s_[0], LOUD)
    scaled(proto, f"{before}.weight", np.s_[:, 0], 0.0)
    return proto


def loud_weight(layer: str = "c3") -> onnx.ModelProto:
    """A layer in whose kernels one tap is far larger than the rest, on a channel of zeros."""
    proto = plain()
    maker = LAYERS[LAYERS.index(layer) - 1]
    scaled(proto, f"{maker}.weight", np.s_[0], 0.0)
    scaled(proto, f"{maker}.bias", np.s_[0], 0.0)
    array = weights(proto)[f"{layer}.weight"].copy()
    array[:, 0, 1, 1] = 100.0
    replace(proto, f"{layer}.weight", array)
    return proto


def weights(proto: onnx.ModelProto) -> dict[str, nets.Array]:
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def scaled(proto: onnx.ModelProto, name: str, part: Any, factor: float) -> None:
    array = weights(proto)[name].copy()
    array[part] *= factor
    replace(proto, name, array)


def replace(proto: onnx.ModelProto, name: str, array: nets.Array) -> None:
    item = next(item for item in proto.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))


def bench(file: ModelFile, **options: Any) -> Workbench:
    samples = nets.samples(file.proto, 4)
    return Workbench.of(Job(file, QuantizeOptions(**options), samples, None))


class Sqnr:
    """A score: SQNR of the outputs on eight other samples, and how often it was asked."""

    def __init__(self, file: ModelFile) -> None:
        self.samples = nets.samples(file.proto, 8, seed=7)
        self._true = [nets.run(file, sample)[0] for sample in self.samples]
        self.asked = 0

    def __call__(self, path: Path) -> dict[str, Measured]:
        self.asked += 1
        model = ModelFile(path)
        values = [
            nets.sqnr_db(true, nets.run(model, sample)[0])
            for sample, true in zip(self.samples, self._true, strict=True)
        ]
        return {"sqnr_db": Measured(float(np.mean(values)), low=min(values), high=max(values))}


def profile(path: Path) -> list[tuple[str, str, float]]:
    """Kernel times by construction: 2 ms for a float convolution, 1 ms for one in INT8.

    A conversion takes 0.1 us an element, so that a border costs less than a convolution.
    """
    graph = ModelFile(path).proto.graph
    maker = {name: node for node in graph.node for name in node.output}
    times = []
    for node in graph.node:
        if node.op_type == "Conv":
            source = maker.get(node.input[1])
            integer = source is not None and source.op_type == "DequantizeLinear"
            times.append((node.op_type, node.output[0], 1.0 if integer else 2.0))
        if node.op_type == "QuantizeLinear":
            times.append((node.op_type, node.output[0], 8 * 12 * 12 * 1e-4))
    return times


def latencies(paths: list[Path] | tuple[Path, ...]) -> list[float]:
    """The sum of the above, without conversions."""
    return [sum(ms for op, _, ms in profile(path) if op == "Conv") for path in paths]
