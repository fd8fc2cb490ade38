from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from PIL import Image

from exporters.errors import EdgeportError, UserError
from exporters.flashocc import agreement, export, prepare
from exporters.flashocc.config import M0, NANO, NUSCENES_CAMERAS, OCC3D_CLASSES
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.preprocess import normalise, resize_and_crop
from exporters.flashocc.random_weights import generated_images
from exporters.flashocc.rig import CameraFrame, Rig
from exporters.modelfile import ModelFile
from exporters.variants import ExportResult, family
from tests.exporters.flashocc.rigs import nuscenes_rig, turned

IMAGES = generated_images(6, NANO.view.image_size, 5)


def run(model: ModelFile, **feeds: Any) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feeds)
    found: np.ndarray[Any, Any] = result
    return found


def rolled_rig() -> Rig:
    """Every camera rolled by 40 degrees: image columns are no vertical planes any more."""
    return Rig(tuple(turned(camera, roll=40.0) for camera in four_camera_rig().cameras))


def test_the_file_says_what_it_is(mini_export: ExportResult) -> None:
    spec = mini_export.model.require_spec()
    assert (spec.variant, spec.family, spec.task) == ("flashocc-nano", "flashocc", "occupancy")
    assert spec.classes == OCC3D_CLASSES
    assert str(spec.weights) == "random weights, seed 0"
    assert spec.geometry["rig_sha256"] == nuscenes_like_rig().sha256
    assert spec.geometry["rig_is_synthetic"] is True
    assert spec.geometry["view"] == NANO.view.to_json()
    assert spec.geometry["grid"] == NANO.grid.to_json()
    assert "torch" in spec.tools
    (images,) = spec.inputs
    assert (images.dtype, images.shape) == ("uint8", (6, 64, 176, 3))
    assert images.semantics == "camera-images"
    assert images.details["cameras"] == list(NUSCENES_CAMERAS)
    assert images.details["color_order"] == "RGB"
    (labels,) = spec.outputs
    assert (labels.name, labels.dtype, labels.shape) == ("labels", "uint8", (40, 40, 4))
    assert labels.details["free_class"] == 17
    assert labels.details["voxel_m"] == [2.0, 2.0, 1.6]


def test_the_description_is_that_of_the_graph(
    mini_export: ExportResult, rig_export: ExportResult
) -> None:
    for result in (mini_export, rig_export):
        session = ort.InferenceSession(str(result.model.path), providers=["CPUExecutionProvider"])
        spec = result.model.require_spec()
        for described, real in (
            (spec.inputs, session.get_inputs()),
            (spec.outputs, session.get_outputs()),
        ):
            assert [(p.name, list(p.shape)) for p in described] == [(r.name, r.shape) for r in real]
            for port, node in zip(described, real, strict=True):
                onnx_name = {"float32": "float"}.get(port.dtype, port.dtype)
                assert node.type == f"tensor({onnx_name})"


def test_what_stays_float_names_real_nodes(mini_export: ExportResult) -> None:
    names = [node.name for node in mini_export.model.proto.graph.node]
    for prefix, reason in mini_export.model.require_spec().keep_float.items():
        assert any(name.startswith(prefix) for name in names), prefix
        assert reason


def test_only_standard_operators_and_none_too_many(mini_export: ExportResult) -> None:
    proto = mini_export.model.proto
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    operators = {node.op_type for node in proto.graph.node}
    waste = {"Identity", "Dropout", "BatchNormalization", "Constant", "Gemm", "GatherND", "Where"}
    assert not operators & waste
    assert sum(node.op_type == "Cast" for node in proto.graph.node) == 2  # uint8 in, uint8 out
    assert [entry.version for entry in proto.opset_import] == [17]


def test_uint8_is_cast_before_anything_moves_it(mini_export: ExportResult) -> None:
    nodes = mini_export.model.proto.graph.node
    assert [node.op_type for node in nodes if "images" in node.input] == ["Cast"]
    assert nodes[-1].op_type == "Cast"
    assert nodes[-1].output[0] == "labels"


def test_residual_additions_read_a_convolution_and_feed_a_relu(mini_export: ExportResult) -> None:
    nodes = mini_export.model.proto.graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    read_by = {name: node.op_type for node in nodes for name in node.input}
    additions = [n for n in nodes if n.op_type == "Add" and "img_neck" not in n.name]
    assert len(additions) == 4 + 6
    for node in additions:
        assert made_by[node.input[0]] == "Conv"
        assert read_by[node.output[0]] == "Relu"


def test_weights_are_there_once(mini_export: ExportResult, mini: FlashOcc) -> None:
    tensors = mini_export.model.proto.graph.initializer
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in tensors]
    assert len(set(contents)) == len(contents)
    floats = sum(np.prod(t.dims) for t in tensors if t.data_type == onnx.TensorProto.FLOAT)
    convolutions = sum(p.numel() for n, p in mini.named_parameters() if p.dim() > 1)
    assert convolutions < floats < 1.05 * convolutions  # and biases and the pooling mask


def test_the_file_does_not_tell_where_it_was_made(mini_export: ExportResult) -> None:
    content = mini_export.model.path.read_bytes()
    for trail in (b".py", b"site-packages", str(Path.home()).encode() + b"/", b"exporters/"):
        assert trail not in content, trail


def test_a_repeated_export_gives_the_same_bytes(mini_export: ExportResult, tmp_path: Path) -> None:
    again = export("flashocc-nano", tmp_path / "again.onnx")
    assert again.model.sha256 == mini_export.model.sha256


def test_onnx_s_own_evaluator_agrees(mini_export: ExportResult, mini: FlashOcc) -> None:
    """An implementation that shares nothing with ONNX Runtime or PyTorch."""
    found = ReferenceEvaluator(mini_export.model.proto).run(None, {"images": IMAGES})[0]
    result = agreement.compare(mini, mini_export.model.proto, [{"images": IMAGES}])
    assert result.holds
    expected = run(mini_export.model, images=IMAGES)
    assert np.count_nonzero(found != expected) <= result.ties + 2  # ties may fall differently


@pytest.mark.oracle
def test_the_real_tensorrt_parser_takes_it(
    mini_export: ExportResult, rig_export: ExportResult
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the TensorRT-RTX wheel is not installed")
    from runtimes import Evidence, preflight

    for result in (mini_export, rig_export):
        findings = preflight(result.model.path, "rtx-ada/trt-rtx1.7")
        assert [finding for finding in findings if finding.severity == "error"] == []
        assert any(finding.evidence is Evidence.BUILT for finding in findings)


def test_float_input_and_logits(mini_export: ExportResult, tmp_path: Path) -> None:
    result = export("flashocc-nano", tmp_path / "f.onnx", input="float", logits=True)
    spec = result.model.require_spec()
    assert spec.inputs[0].shape == (6, 3, 64, 176)
    assert spec.inputs[0].details["color_order"] == "BGR"
    assert spec.outputs[0].semantics == "occupancy-logits"
    logits = run(result.model, images=normalise(IMAGES))
    assert logits.shape == (40, 40, 4, 18)
    labels = run(mini_export.model, images=IMAGES)
    assert np.mean(logits.argmax(-1) == labels) > 0.999  # colours are normalised elsewhere


@pytest.mark.parametrize(
    ("rig", "form"),
    [(four_camera_rig(), "column form"), (rolled_rig(), "bucket form")],
    ids=["four", "rolled"],
)
def test_other_rigs(rig: Rig, form: str, tmp_path: Path) -> None:
    result = export("flashocc-nano", tmp_path / "four.onnx", rig=rig)
    assert result.report["agreement"]["holds"]
    spec = result.model.require_spec()
    assert spec.inputs[0].shape == (4, 64, 176, 3)
    assert spec.geometry["rig_is_synthetic"] is False
    assert spec.geometry["pooling"] == result.report["pooling"]
    assert spec.geometry["pooling"].startswith(form)


def test_rig_input_takes_any_frame(rig_export: ExportResult) -> None:
    spec = rig_export.model.require_spec()
    assert "rig" not in spec.geometry
    assert [item.semantics for item in spec.inputs[1:]] == ["rig-table"] * (len(spec.inputs) - 1)
    rig = nuscenes_like_rig()
    random = np.random.default_rng(0)
    images = {
        camera.name: random.integers(0, 256, (900, 1600, 3), dtype=np.uint8)
        for camera in rig.cameras
    }
    logits = run(rig_export.model, **prepare(CameraFrame("frame", rig, images, {}), spec))
    assert np.isfinite(logits).all()


def test_custom_grid_classes_image_size_and_cameras(tmp_path: Path) -> None:
    result = export(
        "flashocc-nano",
        tmp_path / "custom.onnx",
        image_size="96x160",
        cameras=3,
        depth="1:25:1",
        grid="-8:8:0.5,-4:4:0.5,-1:3:2",
        classes=["wall", "floor", "free"],
    )
    spec = result.model.require_spec()
    assert spec.inputs[0].shape == (3, 96, 160, 3)
    assert spec.outputs[0].shape == (32, 16, 2)
    assert spec.classes == ("wall", "floor", "free")
    labels = run(result.model, images=generated_images(3, (96, 160), 1))
    assert labels.max() <= 2


def test_a_checkpoint_is_recorded(rig_export: ExportResult, mini_checkpoint: Path) -> None:
    from exporters.files import sha256_file

    weights = rig_export.model.require_spec().weights
    assert weights.kind == "checkpoint"
    assert weights.sha256 == sha256_file(mini_checkpoint)
    report = rig_export.report["checkpoint"]
    assert report["loaded"] == 214
    assert report["missing"] == []
    assert "loaded 214 tensors" in rig_export.report["notes"]


def test_progress_names_the_steps(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    export("flashocc-nano", tmp_path / "p.onnx", progress=lambda *args: seen.append(args))
    phases = ("read", "geometry", "weights", "trace", "compare", "write")
    assert seen == [(phase, done, 1) for phase in phases for done in (0, 1)]


def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporters.flashocc import exporter

    genuine = exporter.trace

    def damaged(*args: Any) -> onnx.ModelProto:
        proto = genuine(*args)
        for tensor in proto.graph.initializer:
            if tensor.name == "occ_head.final_conv.conv.weight":
                values = onnx.numpy_helper.to_array(tensor) * 1.01
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return proto

    monkeypatch.setattr(exporter, "trace", damaged)
    with pytest.raises(EdgeportError, match="does not agree with PyTorch: logits differ by"):
        export("flashocc-nano", tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []


def test_labels_may_differ_only_at_ties() -> None:
    """Two voxels: one whose best classes are a rounding apart, one where they are not."""
    expected = np.array([[[[1.0, 1.0 + 1e-5, 0.0], [0.0, 5.0, 1.0]]]], np.float32)
    logits = expected.copy()
    logits[0, 0, 0, 0] += 2e-5
    tie = agreement.compare_logits(expected, logits, logits.argmax(-1))
    assert (tie.ties, tie.exceptions, tie.holds) == (1, 0, True)
    logits[0, 0, 1] = [9.0, 5.0, 1.0]
    wrong = agreement.compare_logits(expected, logits, logits.argmax(-1))
    assert (wrong.ties, wrong.exceptions, wrong.holds) == (1, 1, False)
    assert "1 of them not by a tie" in str(wrong)


def test_an_existing_file_is_found_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "there.onnx"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export("flashocc-m1", path)
    assert path.read_text() == "mine"


def test_the_package_offers_what_a_family_must(mini_export: ExportResult) -> None:
    module = family("flashocc")
    assert {item.name for item in module.VARIANTS} >= {"flashocc-m0", "flashocc-m1"}
    assert callable(module.export)
    assert callable(module.prepare)


def real_frame(folder: Path) -> CameraFrame:
    rig = nuscenes_rig(folder)
    images = {
        name: np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB")) for name in rig.names
    }
    return CameraFrame(folder.name, rig, images, {})


@pytest.mark.data
def test_real_images_agree(edgeport_data: Path, tmp_path: Path) -> None:
    """Exported with the rig as input, compared on both real samples, each with its own rig."""
    frames = [real_frame(folder) for folder in sorted((edgeport_data / "nuscenes").iterdir())]
    first = export(
        "flashocc-nano", tmp_path / "first.onnx", rig="input", reference_rig=frames[0].rig
    )
    spec = first.model.require_spec()
    samples = [prepare(frame, spec) for frame in frames]
    result = export(
        "flashocc-nano",
        tmp_path / "second.onnx",
        rig="input",
        reference_rig=frames[0].rig,
        samples=samples,
    )
    assert result.report["agreement"]["samples"] == 2
    assert result.report["agreement"]["labels"] == 2 * 40 * 40 * 4
    assert result.report["agreement"]["exceptions"] == 0
    assert result.model.sha256 == first.model.sha256


@pytest.mark.data
@pytest.mark.slow
def test_m0_agrees_on_a_real_sample(edgeport_data: Path, tmp_path: Path) -> None:
    frame = real_frame(sorted((edgeport_data / "nuscenes").iterdir())[0])
    crops = [resize_and_crop(frame.images[name], M0.view) for name in frame.rig.names]
    sample = {"images": np.stack(crops)}
    result = export("flashocc-m0", tmp_path / "m0.onnx", rig=frame.rig, samples=[sample])
    found = result.report["agreement"]
    assert found["labels"] == 640_000
    assert found["exceptions"] == 0
    assert result.report["parameters"] == 39_938_892
    labels = run(result.model, **sample)
    assert labels.shape == (200, 200, 16)
    assert len(np.unique(labels)) == 18
