"""Small networks of both kinds: exported, and run as a stream."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.exporter import make_geometry
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.source import Source
from exporters.panoptic_flashocc.memory import Memory
from exporters.stereo_flashocc import export, prepare, weights
from exporters.stereo_flashocc.config import M2, M3, StereoConfig, Swin
from exporters.stereo_flashocc.cost_volume import CostVolume
from exporters.stereo_flashocc.exporter import build_network
from exporters.streaming import Stream
from tests.exporters.panoptic_flashocc.nets import OPTIONS, SMALL
from tests.exporters.panoptic_flashocc.test_streams import drive

_SHAPE = {
    name: getattr(SMALL, name)
    for name in ("grid", "backbone", "neck", "context", "encoder", "width")
}
SMALL_M2 = dataclasses.replace(M2, **_SHAPE, view=dataclasses.replace(SMALL.view, spacing="log"))
SMALL_M3 = dataclasses.replace(
    M3,
    **_SHAPE,
    view=SMALL.view,
    swin=Swin(width=8, blocks=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4),
)
CONFIGS = {"flashocc-m2": SMALL_M2, "flashocc-m3": SMALL_M3}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("stereo")
    frames = list(drive())[:6] + list(drive())[12:14]
    config = CONFIGS[request.param]
    source = Source(request.param, config, None, 0)
    options = ExportOptions.parse({"rig": frames[0].rig})
    network, _ = build_network(source, make_geometry(config, options))
    path = folder / "w.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    with pytest.MonkeyPatch.context() as patch:  # a Swin's own widths come from the variant
        patch.setattr(weights, "CONFIGS", CONFIGS)
        result = export(
            request.param, folder / "m.onnx", checkpoint=path, rig=frames[0].rig, logits=True
        )
    return network, config, result, frames


def offline(network: Any, config: StereoConfig, spec: Any, frames: Any) -> list[NDArray[Any]]:
    """Frame by frame in PyTorch, with what was seen before in plain variables."""
    vectors = torch.from_numpy(camera_vectors(frames[0].rig, config.view))
    found: list[NDArray[Any]] = []
    past: Any = None
    for frame in frames:
        sample = {name: torch.from_numpy(v) for name, v in prepare(frame, spec).items()}
        with torch.no_grad():
            stereo, feature = network.see(CameraInput()(sample["images"]))
            before = stereo if not frame.past else past[1]
            cost = CostVolume(config.view)(stereo, before, sample["stereo_motion"])
            bev = network.bev_map(feature, cost, vectors)
            here = bev
            if frame.past:
                one = torch.ones(1, dtype=torch.int32)
                (here,) = Memory(config.grid)(bev, [past[0]], sample["history_motion"], one)
            found.append(network.predict(here, bev).numpy())
            past = (bev, stereo)
    return found


def test_a_stream_equals_the_network(exported: Any) -> None:
    network, config, result, frames = exported
    spec = result.model.require_spec()
    assert result.report["agreement"]["holds"]
    session = ort.InferenceSession(str(result.model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    stream = Stream(
        spec, lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))
    )
    for frame, expected in zip(frames, offline(network, config, spec, frames), strict=True):
        logits = stream.run(prepare(frame, spec))["logits"]
        np.testing.assert_allclose(logits, expected, atol=1e-3 * expected.std(), rtol=0)


def test_the_file_declares_both_memories(exported: Any) -> None:
    _, config, result, _ = exported
    spec = result.model.require_spec()
    assert [(s.output, s.input, s.age) for s in spec.states] == [
        ("bev", "history_1", 1),
        ("stereo", "stereo_1", 1),
    ]
    assert spec.input("stereo_1").shape == (6, config.image_widths[0], 8, 16)
    assert spec.geometry["view"]["spacing"] == config.view.spacing
    assert set(spec.keep_fp32) == {"memory", "cost_volume"}
    names = [node.name for node in result.model.proto.graph.node]
    assert all(any(n.startswith(prefix) for n in names) for prefix in spec.keep_fp32)
    assert {node.domain for node in result.model.proto.graph.node} == {""}


def test_the_wrong_kind_of_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"occ_head.final_conv.conv.bias": torch.ones(1)}, path)
    with pytest.raises(UserError, match="is no stereo network"):
        export("flashocc-m2", tmp_path / "m.onnx", checkpoint=path, **OPTIONS)
    key = "img_view_transformer.depth_net.cost_volumn_net.0.weight"
    torch.save({key: torch.ones(1)}, path)
    with pytest.raises(UserError, match="edgeport export flashocc-m2"):
        export("flashocc-m3", tmp_path / "m.onnx", checkpoint=path, **OPTIONS)
    with pytest.raises(UserError, match="Did you mean 'flashocc-m2'"):
        export("flashocc-m22", tmp_path / "m.onnx")
