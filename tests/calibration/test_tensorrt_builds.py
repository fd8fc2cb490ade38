"""Every kind of output file parses and builds in the real TensorRT-RTX builder, without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from calibration import QuantizeOptions, cast, quantize
from tests.calibration import nets

pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install edgeport[tensorrt-rtx]"
)

# In a process of its own: one logger a process, and a failing build may abort.
BUILD = """
import json, sys
import tensorrt_rtx as trt

class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.errors = []
    def log(self, severity, text):
        if severity <= trt.ILogger.ERROR:
            self.errors.append(text)

log = Log()
builder = trt.Builder(log)
results = {}
for path in sys.argv[1:]:
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(path)
    config = builder.create_builder_config()
    engine = builder.build_serialized_network(network, config) if parsed else None
    results[path] = {"parsed": parsed, "bytes": engine.nbytes if engine else 0}
print(json.dumps({"results": results, "errors": log.errors}))
"""


def build(*paths: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", BUILD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def mobile() -> onnx.ModelProto:
    """Depthwise, squeeze and excite, SiLU, Softmax, two outputs."""
    net = nets.Net([1, 3, 16, 16])
    a = net.conv("dw", net.conv("a", "x", (3, 8), stride=2), (8, 8), group=8)
    gate = net.conv(
        "se2",
        net.conv("se1", net.node("gap", "GlobalAveragePool", a), (8, 4), 1),
        (4, 8),
        1,
        relu=False,
    )
    gated = net.node("gated", "Mul", a, net.node("gate", "Sigmoid", gate))
    b = net.conv("b", gated, (8, 8), relu=False)
    silu = net.node("silu", "Mul", b, net.node("sigmoid", "Sigmoid", b))
    return net.model(net.conv("c", silu, (8, 4), 1), net.node("soft", "Softmax", silu, axis=1))


@pytest.mark.oracle
@pytest.mark.parametrize("network", [nets.residual, mobile], ids=["residual", "mobile"])
def test_files_build(tmp_path: Path, network: Any) -> None:
    proto = network()
    file = nets.saved(proto, tmp_path / "fp32.onnx")
    samples = nets.samples(proto)
    int8 = quantize(file, samples, tmp_path / "int8.onnx").model
    files = [
        file.path,
        cast(file, tmp_path / "fp16.onnx", "fp16").model.path,
        cast(file, tmp_path / "bf16.onnx", "bf16").model.path,
        int8.path,
        quantize(file, samples, tmp_path / "half.onnx", QuantizeOptions(rest="fp16")).model.path,
        cast(int8, tmp_path / "cast.onnx", "fp16").model.path,
    ]
    found = build(*files)
    assert found["errors"] == []
    for path in files:
        assert found["results"][str(path)]["parsed"], path.name
        assert found["results"][str(path)]["bytes"] > 0, path.name
