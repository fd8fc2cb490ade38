"""Models whose weights lie beside them, small and above the 2 GB that one message can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from calibration import QuantizeOptions, quantize
from calibration.samples.base import InMemorySamples
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from tests.calibration import nets
from tests.calibration.foreign import topologies, zoo

GIBI = 1 << 30


def beside(proto: onnx.ModelProto, path: Path, location: str = "weights.bin") -> ModelFile:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(copy, path, save_as_external_data=True, location=location, size_threshold=0)
    return ModelFile(path)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("location", ["weights.bin", "data/of the model.bin"])
def test_it_makes_no_difference_where_weights_lie(
    tmp_path: Path, policy: str, location: str
) -> None:
    proto = topologies.residual_chain()
    folder = tmp_path / "model"
    (folder / location).parent.mkdir(parents=True)
    files = [nets.saved_bare(proto, tmp_path / "one.onnx"), beside(proto, folder / "m.onnx")]
    if "/" in location:
        _move(folder, location)
    options = QuantizeOptions(policy, i_know=("all",))
    models = [
        quantize(file, zoo.feeds(proto), tmp_path / f"{i}.onnx", options).model
        for i, file in enumerate(files)
    ]
    assert models[1].data_files == ()  # INT8 fits into one file
    graphs = [model.proto.graph.SerializeToString(deterministic=True) for model in models]
    assert graphs[0] == graphs[1]


def _move(folder: Path, location: str) -> None:
    (folder / "weights.bin").rename(folder / location)
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "m.onnx").write_bytes(proto.SerializeToString())


def test_a_path_out_of_the_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    proto = topologies.residual_chain()
    beside(proto, tmp_path / "model" / "m.onnx")
    (tmp_path / "model" / "weights.bin").rename(tmp_path / "weights.bin")
    _set_location(tmp_path / "model" / "m.onnx", "../weights.bin")
    with pytest.raises(UserError, match=r"lies at '\.\./weights\.bin', which is not a path inside"):
        quantize(tmp_path / "model" / "m.onnx", zoo.feeds(proto), tmp_path / "q.onnx")


def _set_location(path: Path, location: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(proto.SerializeToString())


def test_statistics_are_of_the_weights_too(tmp_path: Path) -> None:
    """The same graph with other weights beside it is another model."""
    from calibration import observe

    proto = topologies.residual_chain()
    file = beside(proto, tmp_path / "m.onnx")
    seen = observe(file, zoo.feeds(proto), i_know=("all",))
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[3] ^= 0x80
    (tmp_path / "weights.bin").write_bytes(bytes(data))
    with pytest.raises(UserError, match="the statistics are of another model"):
        quantize(tmp_path / "m.onnx", seen, tmp_path / "q.onnx")


# ------------------------------------------------------------------ above 2 GB


def huge(folder: Path, width: int = 4096, layers: int = 34) -> Path:
    """``layers`` products of ``width`` x ``width``, 2.3 GB; a sparse file holds 1/64 of it."""
    random = np.random.default_rng(0)
    size = 4 * width * width
    initializers, nodes, value = [], [], "x"
    with (folder / "huge.bin").open("wb") as stream:
        for i in range(layers):
            tensor = TensorProto(name=f"w{i}", data_type=1, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": "huge.bin", "offset": i * size, "length": size}
            for key, entry in entries.items():
                tensor.external_data.add(key=key, value=str(entry))
            stream.seek(i * size)
            stream.write(random.standard_normal((width // 64, width), np.float32).tobytes())
            initializers.append(tensor)
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"], name=f"m{i}"))
            nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"t{i}"], name=f"t{i}"))
            value = f"t{i}"
        stream.truncate(layers * size)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, width]) for n in ("x", value)]
    graph = helper.make_graph(nodes, "huge", ends[:1], ends[1:], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "huge.onnx").write_bytes(proto.SerializeToString())
    return folder / "huge.onnx"


@pytest.mark.slow
def test_more_than_2_gb(tmp_path: Path) -> None:
    path = huge(tmp_path)
    file = ModelFile(path)
    assert file.size_bytes > 2 * GIBI
    random = np.random.default_rng(1)
    samples = InMemorySamples(
        [{"x": random.standard_normal((1, 4096)).astype(np.float32)} for _ in range(2)]
    )
    held = psutil.Process().memory_info().rss / (1 << 20)  # by the tests that ran before
    try:
        options = QuantizeOptions(scales="minmax", i_know=("all",))
        result = quantize(file, samples, tmp_path / "q.onnx", options)
        assert result.report["quantized"] == {"MatMul": 34}
        assert result.model.size_bytes < file.size_bytes / 3.9
        # the file, one copy for the session that observes, and little else
        assert result.report["peak_rss_mib"] - held < 2.6 * file.size_bytes / (1 << 20)
        weight = next(i for i in result.model.proto.graph.initializer if i.name == "w7/quantized")
        assert weight.data_type == TensorProto.INT8
    finally:
        (tmp_path / "huge.bin").unlink()  # pytest keeps the folders of its last runs
