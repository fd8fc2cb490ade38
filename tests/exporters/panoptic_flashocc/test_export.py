"""Model files of Panoptic-FlashOcc: what they say, what they compute, which checkpoints fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from exporters.errors import EdgeportError, UserError
from exporters.flashocc.camera_vectors import CAMERA_VALUES, camera_vectors
from exporters.flashocc.config import OCC3D_CLASSES
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.depth_net import DepthNet, FixedDepthNet, fold_camera_norm
from exporters.flashocc.geometry import View
from exporters.flashocc.random_weights import generated_images
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelFile
from exporters.panoptic_flashocc import VARIANTS, export, prepare
from exporters.panoptic_flashocc.centres import assign_instances
from exporters.panoptic_flashocc.config import CONFIGS, DEPTH, NANO, TINY, PanopticConfig
from exporters.panoptic_flashocc.options import PanopticOptions
from exporters.panoptic_flashocc.weights import find_source
from exporters.variants import ExportResult
from tests.exporters.panoptic_flashocc.nets import (
    OPTIONS,
    SMALL,
    random_network,
    remembering,
    saved,
)


def run(model: ModelFile, feeds: Any) -> dict[str, NDArray[Any]]:
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export("panoptic-flashocc-nano", tmp_path_factory.mktemp("nano") / "nano.onnx")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_network(SMALL), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def baked(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    path = tmp_path_factory.mktemp("baked") / "m.onnx"
    return export("panoptic-flashocc", path, checkpoint=checkpoint, **OPTIONS)


@pytest.fixture(scope="module")
def fed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    path = tmp_path_factory.mktemp("fed") / "m.onnx"
    return export("panoptic-flashocc", path, checkpoint=checkpoint, rig="input", **OPTIONS)


def test_every_configuration_is_a_variant() -> None:
    assert {variant.name for variant in VARIANTS} == {*CONFIGS, "panoptic-flashocc"}


def test_the_file_says_what_it_is(nano: ExportResult) -> None:
    spec = nano.model.require_spec()
    assert (spec.family, spec.task) == ("panoptic_flashocc", "panoptic-occupancy")
    assert [port.name for port in spec.inputs] == ["images"]
    labels, instances = spec.outputs
    assert (labels.name, labels.dtype, labels.shape) == ("labels", "uint8", (40, 40, 4))
    assert (instances.name, instances.dtype, instances.shape) == ("instances", "int32", (40, 40, 4))
    assert instances.semantics == "instance-ids"
    assert spec.geometry["centres"]["class_map"] == "fixed"
    assert spec.geometry["history"] == 0
    assert not spec.states
    names = [node.name for node in nano.model.proto.graph.node]
    for prefix in spec.keep_float:
        assert any(name.startswith(prefix) for name in names)


def test_the_graph_has_standard_operators_alone(nano: ExportResult) -> None:
    onnx.checker.check_model(nano.model.proto, full_check=True)
    assert {node.domain for node in nano.model.proto.graph.node} == {""}
    assert not {"NonMaxSuppression", "NonZero", "Loop", "If", "Unique"} & {
        node.op_type for node in nano.model.proto.graph.node
    }


def test_the_same_inputs_give_the_same_bytes(baked: ExportResult, checkpoint: Path) -> None:
    path = baked.model.path.with_name("again.onnx")
    again = export("panoptic-flashocc", path, checkpoint=checkpoint, **OPTIONS)
    assert again.model.sha256 == baked.model.sha256


def test_things_and_only_things_have_instances(nano: ExportResult) -> None:
    found = run(nano.model, {"images": generated_images(6, NANO.view.image_size, 3)})
    labels, instances = found["labels"], found["instances"]
    things = [OCC3D_CLASSES.index(name) for name in ("car", "bus", "truck", "pedestrian")]
    assert len(np.unique(instances)) > 3
    assert np.isin(labels[instances > 0], [2, 3, 4, 5, 6, 7, 9, 10]).all()
    assert any((instances[labels == thing] > 0).any() for thing in things)
    for instance in np.unique(instances[instances > 0]):
        assert len(np.unique(labels[instances == instance])) == 1


def test_agreement_is_reported(nano: ExportResult) -> None:
    said = nano.report["agreement"]
    assert said["holds"]
    assert said["exceptions"] == said["instance_exceptions"] == 0
    assert said["instances"] > 20
    assert said["map_difference"] < 1e-4


def test_a_wrong_graph_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "exporters.panoptic_flashocc.agreement.assign_instances"
    monkeypatch.setattr(name, lambda *a: np.roll(assign_instances(*a), 1, axis=0))
    with pytest.raises(EdgeportError, match="voxels are of another instance"):
        export("panoptic-flashocc", tmp_path / "m.onnx", checkpoint=checkpoint, **OPTIONS)
    assert not (tmp_path / "m.onnx").exists()


def test_class_maps_differ_in_instances_alone(
    baked: ExportResult, checkpoint: Path, tmp_path: Path
) -> None:
    compat = export(
        "panoptic-flashocc", tmp_path / "m.onnx", checkpoint=checkpoint, class_map="compat",
        **OPTIONS,
    )  # fmt: skip
    feeds = {"images": generated_images(6, (32, 64), 5)}
    ours, theirs = run(baked.model, feeds), run(compat.model, feeds)
    assert np.array_equal(ours["labels"], theirs["labels"])
    assert not np.array_equal(ours["instances"], theirs["instances"])
    assert compat.model.require_spec().geometry["centres"]["class_map"] == "compat"


# the rig


def frame_of(rig: Any) -> CameraFrame:
    pictures = [generated_images(1, (c.height, c.width), 9)[0] for c in rig.cameras[:1]]
    return CameraFrame("frame", rig, {camera.name: pictures[0] for camera in rig.cameras}, {})


def test_a_rig_as_input_computes_what_a_baked_one_does(
    baked: ExportResult, fed: ExportResult
) -> None:
    spec = fed.model.require_spec()
    assert spec.input("camera_vectors").shape == (6, CAMERA_VALUES)
    assert any("depth_mlp" in prefix for prefix in spec.keep_float)
    frame = frame_of(nuscenes_like_rig())
    expected = run(baked.model, prepare(frame, baked.model.require_spec()))
    found = run(fed.model, prepare(frame, spec))
    assert (found["labels"] != expected["labels"]).mean() < 0.001  # ties
    assert (found["instances"] != expected["instances"]).mean() < 0.02  # ranks of equal scores


def test_another_rig_gives_another_depth(fed: ExportResult) -> None:
    spec = fed.model.require_spec()
    feeds = prepare(frame_of(nuscenes_like_rig()), spec)
    before = run(fed.model, feeds)["labels"]
    feeds["camera_vectors"] = feeds["camera_vectors"] * np.float32(1.5)
    assert not np.array_equal(run(fed.model, feeds)["labels"], before)


def test_gates_of_a_fixed_rig_are_constants(baked: ExportResult, fed: ExportResult) -> None:
    def operators(result: ExportResult) -> set[str]:
        return {node.op_type for node in result.model.proto.graph.node}

    names = [node.name for node in baked.model.proto.graph.node]
    assert not any("mlp" in name or "_se" in name for name in names)
    assert "Gemm" in operators(fed)
    assert "Gemm" not in operators(baked)
    assert "BatchNormalization" not in operators(fed)


def test_camera_vectors_are_in_upstreams_order() -> None:
    rig = nuscenes_like_rig()
    vectors = camera_vectors(rig, View())
    assert vectors.shape == (6, 27)
    front = vectors[1]
    np.testing.assert_allclose(front[:4], [1260, 1260, 816, 491])
    np.testing.assert_allclose(front[4:10], [0.44, 0, 0, 0, 0.44, -140], rtol=1e-6)
    assert front[10:15].tolist() == [1, 0, 0, 1, 1]
    np.testing.assert_allclose(front[15:].reshape(3, 4), rig.cameras[1].sensor2ego[:3], atol=1e-6)


def test_both_short_forms_of_the_depth_net_are_exact() -> None:
    torch.manual_seed(0)
    net = DepthNet(8, 8, 4, 5).eval()
    with torch.no_grad():
        net.bn.running_mean.normal_()  # type: ignore[union-attr]
        net.bn.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        net.bn.weight.normal_()
        net.bn.bias.normal_()
        features, cameras = torch.randn(3, 8, 4, 6), torch.randn(3, 27)
        expected = net(features, cameras)
        fixed = FixedDepthNet(net, cameras)(features)
        fold_camera_norm(net)
        folded = net(features, cameras)
    for want, *have in zip(expected, fixed, folded, strict=True):
        for value in have:
            torch.testing.assert_close(value, want, atol=1e-5, rtol=1e-5)


def test_one_camera_is_enough(tmp_path: Path) -> None:
    rig = four_camera_rig()
    given: dict[str, Any] = {"rig": dataclasses.replace(rig, cameras=rig.cameras[:1])}
    options = PanopticOptions.parse({**given, **OPTIONS})
    path = saved(random_network(SMALL, options), tmp_path)
    result = export("panoptic-flashocc", tmp_path / "m.onnx", checkpoint=path, **given, **OPTIONS)
    assert result.model.require_spec().input("images").shape[0] == 1


# checkpoints


def found(config: PanopticConfig, variant: str, folder: Path, **options: Any) -> Any:
    network = random_network(config) if config.view.image_size == (32, 64) else None
    assert network is not None
    chosen = PanopticOptions.parse({"checkpoint": saved(network, folder), **OPTIONS, **options})
    return find_source(variant, chosen)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, centres=False),
        dataclasses.replace(SMALL, camera_aware=False),
        dataclasses.replace(SMALL, neck=12, context=4, encoder=(8, 8, 16), width=4),
        remembering(2),
    ],
    ids=["all", "semantic", "one convolution", "widths", "history"],
)
def test_networks_are_recognised_from_shapes(config: PanopticConfig, tmp_path: Path) -> None:
    source = found(config, "panoptic-flashocc", tmp_path)
    expected = config if config.centres else dataclasses.replace(config, centre_width=64)
    assert source.config == expected
    assert source.variant == "panoptic-flashocc"


def meta_checkpoint(config: PanopticConfig, folder: Path) -> Path:
    """Zeros of the right shapes, which cost nothing to save."""
    from torch import nn

    from exporters.panoptic_flashocc.model import PanopticFlashOcc

    with torch.device("meta"):
        state = PanopticFlashOcc(config, nn.Identity()).state_dict()
    path = folder / "shapes.pth"
    torch.save({name: torch.zeros(()).expand(v.shape) for name, v in state.items()}, path)
    return path


@pytest.mark.parametrize("name", [name for name in CONFIGS if "flashocc-n" not in name])
def test_published_variants_are_recognised(name: str, tmp_path: Path) -> None:
    path = meta_checkpoint(CONFIGS[name], tmp_path)
    source = find_source("panoptic-flashocc", PanopticOptions(checkpoint=path))
    assert source.variant == name
    assert source.config.score_threshold == CONFIGS[name].score_threshold


def test_depth_may_have_64_context_channels(tmp_path: Path) -> None:
    narrow = dataclasses.replace(DEPTH, context=64, encoder=(128, 256, 512), centres=True)
    path = meta_checkpoint(narrow, tmp_path)
    source = find_source("panoptic-flashocc-depth-pano", PanopticOptions(checkpoint=path))
    assert (source.variant, source.config.context) == ("panoptic-flashocc-depth-pano", 64)


def test_a_semantic_variant_leaves_the_centre_head_out(tmp_path: Path) -> None:
    path = meta_checkpoint(CONFIGS["panoptic-flashocc-depth-pano"], tmp_path)
    source = find_source("panoptic-flashocc-depth", PanopticOptions(checkpoint=path))
    assert not source.config.centres
    assert source.named is not None
    assert set(source.named.dropped.values()) == {"centre head: this network has no instances"}
    assert len(source.named.dropped) == 54


def test_the_wrong_variant_is_named(tmp_path: Path) -> None:
    path = meta_checkpoint(TINY, tmp_path)
    with pytest.raises(UserError) as caught:
        find_source("panoptic-flashocc-8f", PanopticOptions(checkpoint=path))
    assert "past frames 0 instead of 8" in str(caught.value)
    assert "edgeport export panoptic-flashocc-tiny" in str(caught.value)


def test_stereo_and_foreign_networks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"img_view_transformer.depth_net.cost_volumn_net.0.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match="a stereo network"):
        find_source("panoptic-flashocc", PanopticOptions(checkpoint=path))
    torch.save({"encoder.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match="is not a Panoptic-FlashOcc network"):
        find_source("panoptic-flashocc", PanopticOptions(checkpoint=path))


def test_random_networks_have_names() -> None:
    with pytest.raises(UserError, match="recognised from a checkpoint and none was given"):
        find_source("panoptic-flashocc", PanopticOptions())
    with pytest.raises(UserError, match="Did you mean 'panoptic-flashocc-tiny'"):
        find_source("panoptic-flashocc-tyny", PanopticOptions())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_map": "right"}, "--class-map is 'right'"),
        ({"max_centres": 0}, "--max-centres is 0"),
        ({"class_mapp": "fixed"}, "Did you mean 'class_map'"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        export("panoptic-flashocc-nano", tmp_path / "m.onnx", **options)
    assert words in str(caught.value)
