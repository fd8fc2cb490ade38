"""Small networks with every pattern that placement has to get right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.samples.base import InMemorySamples
from exporters.modelfile import (
    InputSpec,
    ModelFile,
    ModelSpec,
    OutputSpec,
    WeightsSource,
    write_spec,
)

Array = NDArray[Any]


class Net:
    """A graph that grows by method calls; every call returns the name of its result."""

    def __init__(self, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info("x", dtype, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(
            helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes)
        )
        return f"{name}_out"

    def weight(self, name: str, *shape: int, fan_in: int | None = None) -> str:
        fan_in = int(np.prod(shape[1:])) if fan_in is None else fan_in
        values = self.random.standard_normal(shape) * np.sqrt(2 / fan_in)
        return self.constant(name, values.astype(np.float32))

    def conv(
        self,
        name: str,
        x: str,
        channels: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        relu: bool = True,
        bias: bool = True,
        group: int = 1,
    ) -> str:
        weight = self.weight(f"{name}.weight", channels[1], channels[0] // group, kernel, kernel)
        inputs = [x, weight]
        if bias:
            values = (self.random.standard_normal(channels[1]) * 0.1).astype(np.float32)
            inputs.append(self.constant(f"{name}.bias", values))
        pad = kernel // 2
        out = self.node(
            name,
            "Conv",
            *inputs,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=group,
        )
        return self.node(f"{name}/relu", "Relu", out) if relu else out

    def model(
        self, *outputs: str, opset: int = 17, dtype: int = TensorProto.FLOAT
    ) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.initializers)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        proto.ir_version = 8 if opset < 19 else 10
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
        onnx.checker.check_model(proto)
        return proto


def residual() -> onnx.ModelProto:
    """Stem, max pool, identity block, projection block, up-sampling by ConvTranspose, Concat, head.

    ``[1, 3, 32, 32] -> [1, 10]``.
    """
    net = Net([1, 3, 32, 32])
    stem = net.conv("stem", "x", (3, 8), stride=2)
    pooled = net.node("pool", "MaxPool", stem, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    a = net.conv("b1.c2", net.conv("b1.c1", pooled, (8, 8)), (8, 8), relu=False)
    b1 = net.node("b1/relu", "Relu", net.node("b1/add", "Add", a, pooled))
    a = net.conv("b2.c2", net.conv("b2.c1", b1, (8, 16), stride=2), (16, 16), relu=False)
    projection = net.conv("b2.down", b1, (8, 16), kernel=1, stride=2, relu=False)
    b2 = net.node("b2/relu", "Relu", net.node("b2/add", "Add", a, projection))
    weight = net.weight("up.weight", 16, 8, 2, 2, fan_in=16)
    up = net.node("up", "ConvTranspose", b2, weight, kernel_shape=[2, 2], strides=[2, 2])
    joined = net.node("cat", "Concat", net.node("up/relu", "Relu", up), b1, axis=1)
    head = net.conv("head", joined, (16, 16))
    mean = net.node("mean", "GlobalAveragePool", head)
    flat = net.node("flat", "Flatten", mean, axis=1)
    bias = net.constant("fc.bias", np.linspace(-1, 1, 10, dtype=np.float32))
    logits = net.node("fc", "Gemm", flat, net.weight("fc.weight", 10, 16), bias, transB=1)
    return net.model(logits)


def chain(channels: int = 4, kernel: int = 3, *, opset: int = 17) -> onnx.ModelProto:
    """Conv, ReLU, Conv: ``[1, 3, 8, 8] -> [1, 2, 8, 8]``."""
    net = Net([1, 3, 8, 8])
    hidden = net.conv("first", "x", (3, channels), kernel)
    middle = net.conv("second", hidden, (channels, channels), kernel)
    return net.model(net.conv("last", middle, (channels, 2), 1, relu=False), opset=opset)


def saved(
    proto: onnx.ModelProto, path: Path, *, keep_float: dict[str, str] | None = None
) -> ModelFile:
    """Write ``proto`` with a self-description: its inputs are plain tensors, no images.

    That is why the calibration-set doctor has nothing against white noise in them.
    """
    described_proto = onnx.ModelProto()
    described_proto.CopyFrom(proto)
    write_spec(described_proto, described(proto, keep_float or {}))
    return saved_bare(described_proto, path)


def saved_bare(proto: onnx.ModelProto, path: Path) -> ModelFile:
    """Write ``proto`` as it is: a file from elsewhere."""
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return ModelFile(path)


def described(proto: onnx.ModelProto, keep_float: dict[str, str]) -> ModelSpec:
    def spec(value: onnx.ValueInfoProto) -> InputSpec:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        return InputSpec(
            value.name, dtype, tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        )

    return ModelSpec(
        variant="toy",
        family="toy",
        task="test",
        inputs=tuple(spec(value) for value in proto.graph.input),
        outputs=tuple(OutputSpec(o.name, "float32", ()) for o in proto.graph.output),
        weights=WeightsSource("random", seed=0),
        keep_float=keep_float,
    )


def samples(proto: onnx.ModelProto, count: int = 4, seed: int = 1) -> InMemorySamples:
    random = np.random.default_rng(seed)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return InMemorySamples(
        [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]
    )


def run(model: onnx.ModelProto | ModelFile, feeds: dict[str, Array], *tensors: str) -> list[Array]:
    """Run with ONNX Runtime without graph optimisation; ``tensors`` may be inner ones."""
    import onnxruntime as ort

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto if isinstance(model, ModelFile) else model)
    known = {output.name for output in proto.graph.output}
    for name in tensors:
        if name not in known:
            proto.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Array] = session.run(list(tensors) or None, feeds)
    return results


def optimized(path: Path, out: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime executes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(out)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(out)


def sqnr_db(reference: Array, other: Array) -> float:
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - other).sum())
    return float(10 * np.log10(signal / max(noise, 1e-30)))
