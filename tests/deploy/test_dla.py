"""``edgeport dla-scales``, against ONNX Runtime and a reader of the cache written anew."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy import cli
from deploy.dla import write_dla_scales
from exporters.errors import UserError
from runtimes.ort import cpu
from runtimes.tensorrt.dla import dla_scales
from tests.runtimes import models


@pytest.fixture(autouse=True)
def only_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("dla-scales",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.save(models.quantized_conv(), tmp_path / "m.int8.onnx")


def read_cache(path: Path) -> tuple[str, dict[str, float]]:
    header, *lines = path.read_text().splitlines()
    pairs = [line.rsplit(": ", 1) for line in lines]
    scales = {name: struct.unpack("!f", bytes.fromhex(text))[0] for name, text in pairs}
    return header, scales


def test_a_scale_is_that_of_quantize_linear(model: Path, tmp_path: Path) -> None:
    written = write_dla_scales(model, tmp_path / "m.dla.cache")
    header, scales = read_cache(written.cache)
    assert header == "TRT-100300-EntropyCalibration2"
    assert scales == {"x": np.float32(0.05)}
    assert written.cache.read_text().splitlines()[1] == "x: 3d4ccccd"


def test_the_plain_network_computes_the_same_on_representable_inputs(
    model: Path, tmp_path: Path
) -> None:
    """Inputs on the grid of the scale lose nothing to quantization, so both files must agree."""
    written = write_dla_scales(model, tmp_path / "m.dla.cache")
    kinds = {node.op_type for node in onnx.load(written.model).graph.node}
    assert kinds == {"Conv", "Relu"}
    grid = np.random.default_rng(3).integers(-127, 128, (1, 8, 16, 16))
    feeds = {"x": (grid * np.float32(0.05)).astype(np.float32)}
    expected = cpu().load(model).run(feeds)["y"]
    # sums of 72 products in another order
    np.testing.assert_allclose(
        cpu().load(written.model).run(feeds)["y"], expected, rtol=1e-4, atol=1e-4
    )


def test_tensors_without_a_scale_are_told_and_same_values_share_one() -> None:
    qdq = models.quantized_conv()
    nodes = [
        *qdq.graph.node,
        models.node("QuantizeLinear", ["y", "sy", "zx"], ["yq"], name="quantize_y"),
        models.node("DequantizeLinear", ["yq", "sy", "zx"], ["yd"], name="dequantize_y"),
        models.node("MaxPool", ["yd"], ["p"], kernel_shape=[2, 2]),
        models.node("Sigmoid", ["p"], ["z"]),
    ]
    del qdq.graph.node[:]
    qdq.graph.node.extend(nodes)
    qdq.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("z", models.FLOAT, [1, 8, 15, 15])
    )
    qdq.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.25), "sy"))
    plain, found = dla_scales(qdq, "10.3.0")
    onnx.checker.check_model(plain)
    assert found.scales == {"x": np.float32(0.05), "y": 0.25, "p": 0.25, "c": 0.25}
    assert found.followed == {"p": "y", "c": "y"}
    assert [(m.tensor, m.op_type) for m in found.missing] == [("z", "Sigmoid")]
    assert found.weights == 1


@pytest.mark.parametrize(
    ("version", "header"),
    [("10.7.0", "TRT-100700-"), ("10.3", "TRT-100300-"), ("8.5.2", "TRT-8502-")],
)
def test_the_header_is_of_the_tensorrt_that_builds(version: str, header: str) -> None:
    assert dla_scales(models.quantized_conv(), version)[1].cache().startswith(header)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("10.13.0", "TensorRT 10.13.0 has no DLA: 10.7 was the last"),
        ("11.4.1", "takes Q/DQ itself"),
        ("ten", "'ten' is no TensorRT version"),
    ],
)
def test_versions_that_take_no_cache(version: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        dla_scales(models.quantized_conv(), version)
    assert words in str(error.value)
    assert error.value.fix


def test_models_that_a_dla_cannot_take() -> None:
    with pytest.raises(UserError, match="no quantized tensors"):
        dla_scales(models.conv(), "10.3.0")
    with pytest.raises(UserError, match="node 'quantize_x' quantizes to int8 with a zero point"):
        dla_scales(models.quantized_conv(zero_point=3), "10.3.0")
    twice = models.quantized_conv()
    twice.graph.node.insert(
        0, models.node("QuantizeLinear", ["x", "s2", "zx"], ["x2"], name="again")
    )
    twice.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "s2"))
    with pytest.raises(UserError, match=r"'x' is quantized with the scales 0\.5 and 0\.05"):
        dla_scales(twice, "10.3.0")


def test_the_command(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "m.dla.cache"
    assert cli.run(["dla-scales", str(model), "-o", str(output)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ties away from zero" in said
    assert "evidence: written" in said
    assert "--calib=m.dla.cache --int8 --fp16 --useDLACore=0" in said
    assert cli.run(["dla-scales", str(model), "-o", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err
    arguments = ["dla-scales", str(model), "-o", str(output), "--overwrite", "--json"]
    assert cli.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.dla-scales/1"
    assert {m["op_type"] for m in result["missing"]} == {"Conv", "Relu"}
