"""Files of every opset: raised where needed, and computing what they computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import calibration.graph.prepare
from calibration import QuantizeOptions, cast, quantize
from calibration.graph.prepare import prepare
from exporters.errors import UserError
from tests.calibration import nets
from tests.calibration.foreign import torch_nets, zoo
from tests.calibration.foreign.pieces import unchecked

MODERN = (17, 18, 19, 20, 21, 22, 23)


def opset(proto: onnx.ModelProto) -> int:
    return next(o.version for o in proto.opset_import if o.domain == "")


def spelled(version: int) -> onnx.ModelProto:
    """Operators whose form changed from opset to opset: Clip, Squeeze, ReduceSum, Softmax, Pad."""
    net = nets.Net([2, 3, 8, 8])
    a = net.conv("c1", "x", (3, 8), relu=False)
    limits = [net.constant(n, np.float32(v)) for n, v in (("zero", 0), ("six", 6))]
    a = net.node("clip", "Clip", a, *limits)
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    b = net.conv("c2", net.node("pad", "Pad", a, pads), (8, 8))
    axes = net.constant("axes", np.array([2, 3], np.int64))
    if version >= 18:
        m = net.node("mean", "ReduceMean", b, axes, keepdims=1)
    else:
        m = net.node("mean", "ReduceMean", b, axes=[2, 3], keepdims=1)
    if version >= 13:
        s = net.node("sq", "Squeeze", m, axes)
        t = net.node("sum", "ReduceSum", b, axes, keepdims=0)
    else:
        s = net.node("sq", "Squeeze", m, axes=[2, 3])
        t = net.node("sum", "ReduceSum", b, axes=[2, 3], keepdims=0)
    w = net.weight("fw", 8, 4, fan_in=20_000)  # the sums are large: keep Softmax soft
    fc = net.node("fc", "MatMul", net.node("add", "Add", s, t), w)
    return net.model(net.node("soft", "Softmax", fc, axis=1), opset=version)


def quantized(tmp_path: Path, proto: onnx.ModelProto, **options: Any) -> Any:
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    chosen = QuantizeOptions(
        **{"scales": "minmax", "i_know": ("all",), "overwrite": True} | options
    )
    return quantize(file, zoo.feeds(proto), tmp_path / "q.onnx", chosen)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("version", [11, 12, 13, 14, 15, 16, *MODERN])
def test_every_opset_works(tmp_path: Path, version: int, policy: str) -> None:
    proto = spelled(version)
    result = quantized(tmp_path, proto, policy=policy)
    assert opset(result.model.proto) == max(version, 17)
    canonical = result.report["canonical"]
    if version < 17:
        assert f"opset {version} raised to 17" in canonical["changes"]
        assert canonical["largest_difference"] < 1e-5  # float32 rounding; measured, not assumed
    else:
        assert canonical["changes"] == []
    feed = next(iter(zoo.feeds(proto)))
    (before,), (after,) = nets.run(proto, feed), nets.run(result.model, feed)
    assert nets.sqnr_db(before, after) > 30


@pytest.mark.parametrize("version", [11, 13, 17])
def test_fp16_scales_raise_to_19(tmp_path: Path, version: int) -> None:
    result = quantized(tmp_path, spelled(version), rest="fp16")
    assert opset(result.model.proto) == 19


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("version", [13, 16, 18, 21])
def test_opsets_that_torch_writes(tmp_path: Path, version: int, dynamo: bool) -> None:
    if dynamo and version < 18:
        version += 5  # the newer exporter starts at 18
    if not dynamo and version > 20:
        version = 20  # the older one ends there
    proto = torch_nets.exported("resnet", dynamo=dynamo, opset=version)
    assert opset(proto) == version
    result = quantized(tmp_path, proto)
    assert opset(result.model.proto) == max(version, 17)


def test_what_no_converter_knows_is_refused(tmp_path: Path) -> None:
    net = nets.Net([1, 3, 8, 8])
    pad = net.node("pad", "Pad", "x", paddings=[0] * 8)
    weight = net.weight("w", 4, 3, 1, 1)
    proto = unchecked(net, {net.node("c", "Conv", pad, weight): [1, 4, 8, 8]})
    proto.opset_import[0].version = 1
    file = nets.saved_bare(proto, tmp_path / "m.onnx")
    with pytest.raises(UserError) as caught:
        quantize(file, zoo.feeds(proto), tmp_path / "q.onnx", QuantizeOptions(i_know=("all",)))
    assert "m.onnx has opset 1 and cannot be raised to 17: No Adapter" in str(caught.value)
    assert str(caught.value).endswith("Export it with opset 17 or later")


def test_a_conversion_that_changes_the_result_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canonical form is run beside the file: here one that lost a bias on the way."""

    def careless(proto: onnx.ModelProto, *_: object) -> Any:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        next(n for n in copy.graph.node if n.name == "c2").input.pop()
        return copy, ["opset 13 raised to 17"]

    monkeypatch.setattr(calibration.graph.prepare, "_raised", careless)
    with pytest.raises(
        UserError,
        match=r"output 'soft_out' of .* differs from the file's by -?\d+\.\d dB once its canonical "
        r"form is made: opset 13 raised to 17",
    ):
        quantized(tmp_path, spelled(13))


def test_a_cast_of_an_old_file_says_which(tmp_path: Path) -> None:
    file = nets.saved_bare(spelled(11), tmp_path / "m.onnx")
    assert opset(cast(file, tmp_path / "h.onnx", "fp16").model.proto) >= 13


@pytest.mark.parametrize("version", MODERN)
def test_ir_versions_fit_the_opset(version: int) -> None:
    assert prepare(nets.chain(opset=version)).ir_version >= (10 if version >= 21 else 8)
