"""Every file for TensorRT parses and builds in TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from calibration import QuantizeOptions, quantize
from tests.calibration import nets
from tests.calibration.foreign import topologies, torch_nets, zoo
from tests.calibration.test_tensorrt_builds import build

pytestmark = pytest.mark.oracle

# TensorRT-RTX 1.7 needs more than five minutes for an LSTM of 20 steps, in FP32 just as well;
# com.microsoft is refused for TensorRT before anything is calibrated
NOT_BUILT = {"recurrent", "contrib"}


def int8(proto: onnx.ModelProto, path: Path, **options: str) -> Path:
    file = nets.saved_bare(proto, path.with_suffix(".fp32.onnx"))
    chosen = QuantizeOptions("tensorrt", scales="minmax", i_know=("all",), **options)
    samples = zoo.feeds(proto, batch=1, height=32, width=32)
    return quantize(file, samples, path, chosen).model.path


def sized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With every free axis fixed: a build without optimization profiles takes no other."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for info in fixed.graph.input:
        for axis, size in enumerate(info.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_value = (1, 3, 32, 32)[axis]
    del fixed.graph.value_info[:]
    return fixed


@pytest.mark.parametrize("part", range(4))
def test_the_zoo_builds(tmp_path: Path, part: int) -> None:
    names = sorted(set(zoo.WORKING) - NOT_BUILT)[part::4]
    graphs = {name: sized(zoo.WORKING[name]()) for name in names}
    if part == 0:
        graphs["linear_pyramid"] = topologies.feature_pyramid("linear")
    check({int8(proto, tmp_path / f"{name}.onnx") for name, proto in graphs.items()})


def test_splits_and_fp16_build(tmp_path: Path) -> None:
    options = [{"split": "cfws"}, {"rest": "fp16"}, {"split": "cfws", "rest": "fp16"}]
    graphs = [topologies.residual_chain, topologies.squeeze_and_excite, topologies.transformer]
    check(
        {
            int8(graph(), tmp_path / f"{graph.__name__}-{i}.onnx", **option)
            for graph in graphs
            for i, option in enumerate(options)
        }
    )


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_networks_from_torch_build(tmp_path: Path, dynamo: bool) -> None:
    check(
        {
            int8(sized(torch_nets.exported(name, dynamo=dynamo)), tmp_path / f"{name}.onnx")
            for name in ("resnet", "mobilenet", "unet", "vit")
        }
    )


def check(files: set[Path]) -> None:
    found = build(*sorted(files))
    assert found["errors"] == []
    for path in files:
        assert found["results"][str(path)]["parsed"], path.name
        assert found["results"][str(path)]["bytes"] > 0, path.name
