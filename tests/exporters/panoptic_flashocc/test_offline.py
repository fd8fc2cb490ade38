"""The offline form: past frames pooled where they lie now, against the network in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from exporters.errors import UserError
from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.geometry import cell_indices, sensor_to_key_ego
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.pooling import choose_tables
from exporters.flashocc.pooling_torch import make_pooling
from exporters.panoptic_flashocc import export, prepare
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from exporters.panoptic_flashocc.offline import rig_seen_from, run_offline
from exporters.panoptic_flashocc.options import PanopticOptions
from tests.exporters.panoptic_flashocc.nets import (
    GRID,
    OPTIONS,
    SMALL,
    random_network,
    remembering,
    saved,
)
from tests.exporters.panoptic_flashocc.test_streams import drive, pose, rig_at

CONFIG = remembering(2)


def test_past_frames_are_pooled_where_they_lie_now(tmp_path: Path) -> None:
    frames = list(drive())[:4]
    trained = random_network(CONFIG)
    result = export(
        "panoptic-flashocc", tmp_path / "m.onnx", checkpoint=saved(trained, tmp_path), rig="input",
        reference_rig=frames[0].rig, history="offline", logits=True, **OPTIONS,
    )  # fmt: skip
    spec = result.model.require_spec()
    assert not spec.states
    assert "history_motion" not in {port.name for port in spec.inputs}
    session = ort.InferenceSession(str(result.model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Any) -> Any:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    for index, frame in enumerate(frames):
        past = frames[:index][::-1]
        found = run_offline(spec, run, frame, past)["logits"]
        expected = in_torch(trained, frame, past, spec)
        np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std(), rtol=0)


def in_torch(trained: Any, frame: Any, past: Any, spec: Any) -> Any:
    """Every frame with a pooling of its own, made from its pose in the current ego frame."""
    vectors = torch.from_numpy(camera_vectors(frame.rig, SMALL.view))
    key, maps = frame.rig.cameras[0].ego2global, []
    for seen in [frame, *past[: CONFIG.history]]:
        tables = choose_tables(
            cell_indices(rig_seen_from(seen.rig, key), SMALL.view, GRID), GRID, seen.rig.names
        )
        network = PanopticFlashOcc(CONFIG, make_pooling(tables)).eval()
        network.load_state_dict(trained.state_dict())
        images = torch.from_numpy(prepare(seen, spec)["images"])
        with torch.no_grad():
            maps.append(network.bev_map(CameraInput()(images), cameras=vectors))
    maps += [maps[0]] * (CONFIG.history + 1 - len(maps))
    with torch.no_grad():
        return trained.predict(maps[0], maps[1:]).logits.numpy()


def test_poses_are_those_of_the_current_vehicle() -> None:
    key = pose(5)
    moved = rig_seen_from(rig_at(3), key)
    for camera, original, found in zip(
        moved.cameras, rig_at(3).cameras, sensor_to_key_ego(moved), strict=True
    ):
        assert np.array_equal(camera.ego2global, np.eye(4))
        expected = np.linalg.inv(key) @ pose(3) @ original.sensor2ego
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_form_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Add --rig input"):
        PanopticOptions.parse({"history": "offline"}).panoptic(SMALL)
    with pytest.raises(UserError, match="Choose online or offline"):
        PanopticOptions.parse({"history": "both"}).panoptic(SMALL)
    path = saved(random_network(SMALL), tmp_path)
    result = export("panoptic-flashocc", tmp_path / "m.onnx", checkpoint=path, **OPTIONS)
    frame = next(drive())
    with pytest.raises(UserError, match="has no offline memory"):
        run_offline(result.model.require_spec(), dict, frame, [])
