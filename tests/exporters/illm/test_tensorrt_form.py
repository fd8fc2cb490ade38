"""The decoder for TensorRT: the bits of ONNX Runtime's form, exact floats, and a real build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploy.exact_floats import EXACT, audit_exact_floats
from deploy.integer_audit import audit_integers
from exporters.errors import UserError
from exporters.illm import export
from exporters.illm.rotation import BASES
from exporters.modelfile import ModelFile
from exporters.ops import NUMPY
from exporters.ops.matmul import di_matmul
from exporters.ops.tensorrt_backend import TensorRtBackend
from runtimes.base import BuildOptions
from runtimes.shapes import ShapeRange
from runtimes.tensorrt.adapter import TensorRT
from tests.exporters.illm.test_decoder import IDS, Runner

Checkpoint = Callable[[str], tuple[Path, Any]]


@pytest.mark.parametrize(
    ("kind", "bits", "basis"),
    [
        ("llama-tied", "W8A8", "rotated"),
        ("llama-untied", "W6A6", "own"),
        ("qwen2", "W8A8", "own"),
        ("llama-tied", "W4A4", "rotated"),
    ],
)
def test_it_gives_the_bits_of_the_other_form(
    checkpoint: Checkpoint, tmp_path: Path, kind: str, bits: str, basis: str
) -> None:
    folder, _ = checkpoint(kind)
    for runtime in ("onnxruntime", "tensorrt"):
        options = {"bits": bits, "basis": basis, "runtime": runtime}
        export("illm", tmp_path / f"{runtime}.onnx", checkpoint=folder, **options)
    right, found = (Runner(tmp_path / f"{r}.onnx") for r in ("onnxruntime", "tensorrt"))
    for ids in (IDS, [7], [301]):
        expected, given = right.step(ids, keep=1), found.step(ids)
        for name, value in expected.items():
            np.testing.assert_array_equal(given[name], value, err_msg=name)


@pytest.mark.parametrize("basis", BASES)
def test_its_floats_are_proved_integers_and_the_graph_is_not_called_integer_only(
    checkpoint: Checkpoint, tmp_path: Path, basis: str
) -> None:
    folder, _ = checkpoint("llama-tied")
    export("illm", tmp_path / "m.onnx", checkpoint=folder, runtime="tensorrt", basis=basis)
    proto = ModelFile(tmp_path / "m.onnx").proto
    found = audit_exact_floats(proto, 128)
    assert found.passed
    assert found.products >= 2 * (4 + 2) + 1  # matrices and attention's two, and the output matrix
    assert 0 < found.largest <= EXACT
    found.require(tmp_path / "m.onnx")
    assert not audit_integers(proto).passed


def test_more_keys_than_are_exact_are_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("llama-tied")
    export("illm", tmp_path / "m.onnx", checkpoint=folder, runtime="tensorrt")
    found = audit_exact_floats(ModelFile(tmp_path / "m.onnx").proto, 4096)
    assert "4096 products can add up to 133693440, beyond 2^24" in found.offences[0]
    with pytest.raises(UserError, match="has floats that need not be integers"):
        found.require(tmp_path / "m.onnx")


def test_long_rows_are_multiplied_in_parts_and_stay_exact() -> None:
    random = np.random.default_rng(3)
    depth = 2500  # whole, in float32, sums of extremes would be rounded
    rows = np.where(random.random((3, depth)) < 0.9, 255, 1).astype(np.uint8)
    weight = np.where(random.random((depth, 5)) < 0.9, 127, 126).astype(np.int8)
    graph = TensorRtBackend()
    x = graph.input("x", "int64", [3, depth]).cast("uint8")
    z = di_matmul(x, graph.weight("w", weight), graph.constant(np.ones(5, np.int64)))
    graph.output(z, "z", "int64", [3, 5])
    model = graph.model("parts")
    assert sum(node.op_type == "MatMul" for node in model.graph.node) == 3
    assert audit_exact_floats(model).passed
    found = _run(model, x=rows.astype(np.int64))["z"]
    right = di_matmul(
        NUMPY.constant(rows, "uint8"), NUMPY.constant(weight, "int8"), NUMPY.constant(np.ones(5))
    )
    np.testing.assert_array_equal(found, right.raw)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("Cast", ["big"], {"to": TensorProto.FLOAT})], "big has no bound"),
        ([("DequantizeLinear", ["w", "half"], {})], "its scale is not 1"),
        (
            [
                ("DequantizeLinear", ["w", "one"], {}),
                ("Div", ["v0", "one"], {}),
            ],
            "Div of floats",
        ),
    ],
)
def test_floats_that_may_be_fractions_are_named(nodes: Any, words: str) -> None:
    made = [
        helper.make_node(kind, inputs, [f"v{i}"], **attributes)
        for i, (kind, inputs, attributes) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("big", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info(made[-1].output[0], TensorProto.FLOAT, [2])],
        [
            helper.make_tensor("w", TensorProto.INT8, [2], [1, 2]),
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        ],
    )
    found = audit_exact_floats(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    )
    assert words in found.offences[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "tensorrt", "context": 513}, "products of more than 512 keys are not exact"),
        ({"runtime": "tensorrt", "precision": "float"}, "--runtime tensorrt is for integers"),
        ({"runtime": "tensorflow"}, "--runtime is 'tensorflow'"),
    ],
)
def test_what_tensorrt_cannot_have_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    folder, _ = checkpoint("llama-tied")
    with pytest.raises(UserError, match=words):
        export("illm", tmp_path / "m.onnx", checkpoint=folder, **options)
    assert not list(tmp_path.iterdir())


def _run(model: onnx.ModelProto, **feeds: Any) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize(("bits", "basis"), [("W8A8", "rotated"), ("W4A4", "own")])
def test_tensorrt_builds_the_whole_decoder(
    checkpoint: Checkpoint, tmp_path: Path, bits: str, basis: str
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    folder, _ = checkpoint("llama-tied")
    options = {"runtime": "tensorrt", "bits": bits, "basis": basis}
    export("illm", tmp_path / "m.onnx", checkpoint=folder, **options)
    model = ModelFile(tmp_path / "m.onnx")
    ranges = tuple(
        ShapeRange(port.name, *(_sized(port.shape, size) for size in (1, 8, 64)))
        for port in model.require_spec().inputs
        if not all(isinstance(size, int) for size in port.shape)
    )
    engine = TensorRT().build(model, tmp_path / "m.engine", BuildOptions(shapes=ranges))
    assert engine.path.stat().st_size > 100_000


def _sized(shape: Any, size: int) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else size for n in shape)
