"""Properties of single-frame FlashOcc that look like mistakes and decide about parity.

| quirk                                                          | test                        |
|----------------------------------------------------------------|-----------------------------|
| Q2 a baked rig is wrong for another vehicle                    | test_q2_*                   |
| Q3 planes B, G, R with statistics of R, G, B                   | test_q3_*                   |
| Q4 truncation toward zero extends the slab to -7.4 m           | test_q4_*, test_geometry    |
| Q5 key ego is that of the first camera at its own time         | test_q5_*, test_geometry    |
| Q6 frustum runs from image corner to image corner              | test_q6_*, test_geometry    |
| Q8 M0 has 44 bins and 128 channels, M1 88 and 256              | test_q8_*, test_model       |
| Q10 hidden ReLU in the head; none in neck and context          | test_q10_*                  |
| Q11 BEV shortcut: 3x3 with bias, no BatchNorm                  | test_q11_*                  |
| Q12 bilinear with aligned corners in the BEV neck              | test_q12_*                  |
| Q13 channel z*classes + class; output x, y, z                  | test_q13_*                  |
| Q16 no scatter: ONNX Runtime races, TensorRT ignores reduction | test_q16_*                  |

Q1, Q7, Q9 concern panoptic, stereo and temporal models; Q14, Q15 and Q17 evaluation.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from exporters.flashocc import export
from exporters.flashocc.bev_encoder import CustomResNet
from exporters.flashocc.config import M0, M1, NANO
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import Grid, View, cell_indices, ego_points, sensor_to_key_ego
from exporters.flashocc.head import BEVOCCHead2D, OccupancyHead
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.necks import FPN_LSS, CustomFPN
from exporters.flashocc.preprocess import rig_tables
from exporters.flashocc.random_weights import generated_images
from exporters.flashocc.rig import Rig
from exporters.flashocc.view_transformer import LSSViewTransformer
from exporters.modelfile import ModelFile
from exporters.variants import ExportResult
from tests.exporters.flashocc import oracle
from tests.exporters.flashocc.rigs import turned


def session(model: ModelFile) -> ort.InferenceSession:
    return ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])


def shifted_rig() -> Rig:
    """Another vehicle: cameras half a metre higher and turned by three degrees."""
    cameras = []
    for camera in nuscenes_like_rig().cameras:
        moved = turned(camera, yaw=3.0)
        pose = moved.sensor2ego.copy()
        pose[2, 3] += 0.5
        cameras.append(dataclasses.replace(moved, sensor2ego=pose))
    return Rig(tuple(cameras))


def test_q2_tables_as_inputs_follow_the_vehicle(
    rig_export: ExportResult, mini_checkpoint: Path, tmp_path: Path
) -> None:
    images = generated_images(6, NANO.view.image_size, 7)
    spec = rig_export.model.require_spec()
    results = []
    for index, rig in enumerate((nuscenes_like_rig(), shifted_rig())):
        path = tmp_path / f"{index}.onnx"
        baked = export("flashocc-nano", path, checkpoint=mini_checkpoint, rig=rig, logits=True)
        (expected,) = session(baked.model).run(None, {"images": images})
        feeds = {"images": images, **rig_tables(rig, spec)}
        (found,) = session(rig_export.model).run(None, feeds)
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std(), rtol=0)
        results.append(found)
    assert np.abs(results[0] - results[1]).max() > 0.1 * results[0].std()


def test_q3_planes_are_blue_green_red_with_statistics_of_red_green_blue() -> None:
    red = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    red[..., 0] = 255
    planes = CameraInput()(red)[0, :, 0, 0].numpy()
    expected = [(0 - 123.675) / 58.395, (0 - 116.28) / 57.12, (255 - 103.53) / 57.375]
    np.testing.assert_allclose(planes, expected, rtol=1e-6)


def test_q4_a_third_of_the_points_lies_below_the_slab() -> None:
    rig, view, grid = nuscenes_like_rig(), View(), Grid()
    kept = np.count_nonzero(cell_indices(rig, view, grid) >= 0)
    height = ego_points(rig, view)[..., 2]
    in_slab = np.count_nonzero((cell_indices(rig, view, grid) >= 0) & (height >= -1.0))
    assert 1.4e5 < kept < 1.6e5  # 152,107 on a real calibration
    assert 0.9e5 < in_slab < 1.1e5  # 100,463


def test_q5_the_first_camera_defines_the_frame() -> None:
    cameras = list(nuscenes_like_rig().cameras)
    pose = np.eye(4)
    pose[:3, 3] = 100.0, -50.0, 0.0
    moved = [dataclasses.replace(camera, ego2global=pose) for camera in cameras]
    later = pose.copy()
    later[0, 3] += 0.3  # the vehicle drove 0.3 m before the second camera's shutter
    moved[1] = dataclasses.replace(moved[1], ego2global=later)
    poses = sensor_to_key_ego(Rig(tuple(moved)))
    standing = sensor_to_key_ego(Rig(tuple(cameras)))
    np.testing.assert_allclose(poses[0], standing[0], atol=1e-5)
    np.testing.assert_allclose(poses[1, 0, 3] - standing[1, 0, 3], 0.3, atol=1e-5)


def test_q6_frustum_runs_from_corner_to_corner() -> None:
    front = nuscenes_like_rig().cameras[1]
    points = ego_points(Rig((front,)), View())[0, 0]  # at 1 m
    inverse = np.linalg.inv(front.intrinsics)
    for row, column, pixel in ((0, 0, (0, 0)), (-1, -1, (703, 255))):
        original = np.array([pixel[0] / 0.44, (pixel[1] + 140) / 0.44, 1.0])
        expected = front.sensor2ego[:3, :3] @ (inverse @ original) + front.sensor2ego[:3, 3]
        np.testing.assert_allclose(points[row, column], expected, atol=1e-5)


def test_q8_which_one_is_which() -> None:
    assert (M0.view.depth_bins, M0.width) == (44, 128)
    assert (M1.view.depth_bins, M1.width) == (88, 256)


def fill(module: nn.Module, weight: float, bias: float) -> None:
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.constant_(conv.weight, weight)
            if conv.bias is not None:
                nn.init.constant_(conv.bias, bias)


def test_q10_the_head_has_a_relu_that_its_name_hides() -> None:
    head = BEVOCCHead2D(4, 2, 3)
    fill(head.final_conv, 0.0, -1.0)
    assert torch.equal(head.final_conv(torch.ones(1, 4, 5, 5)), torch.zeros(1, 4, 5, 5))


def test_q10_neck_and_context_have_none() -> None:
    neck = CustomFPN((4, 8), 4)
    fill(neck, 0.0, -1.0)
    assert torch.equal(
        neck(torch.ones(1, 4, 4, 6), torch.ones(1, 8, 2, 3)), -torch.ones(1, 4, 4, 6)
    )

    class Pass(nn.Module):
        def forward(self, depth: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            torch.testing.assert_close(depth.sum(1), torch.ones(1, 4, 6))
            return context

    lift = LSSViewTransformer(4, 5, 3, Pass())
    fill(lift, 0.0, -1.0)
    assert torch.equal(lift(torch.ones(1, 4, 4, 6)), -torch.ones(1, 3, 4, 6))


def test_q11_shortcut_is_a_3x3_convolution_with_bias_and_without_batch_norm() -> None:
    for stage in CustomResNet(8, (16, 32, 64)).layers:
        shortcut = stage.get_submodule("0.downsample")
        assert isinstance(shortcut, nn.Conv2d)
        assert shortcut.kernel_size == (3, 3)
        assert shortcut.stride == (2, 2)
        assert shortcut.bias is not None
        assert stage.get_submodule("1").downsample is None


def test_q12_bev_neck_aligns_corners(mini_export: ExportResult) -> None:
    neck = FPN_LSS(8, 4)
    x = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4).sin()
    torch.testing.assert_close(
        neck.up(x).double(), oracle.enlarge(x.double(), 4), atol=1e-6, rtol=0
    )
    modes = {
        node.name: onnx.helper.get_node_attr_value(node, "coordinate_transformation_mode")
        for node in mini_export.model.proto.graph.node
        if node.op_type == "Resize"
    }
    assert modes == {
        "img_neck/Resize": b"asymmetric",
        "img_bev_encoder_neck/up/Resize": b"align_corners",
        "img_bev_encoder_neck/up2.0/Resize": b"align_corners",
    }


@pytest.mark.parametrize(("height", "label"), [(0, 0), (0, 2), (1, 0), (3, 1)])
def test_q13_channels_are_height_major(height: int, label: int) -> None:
    head = BEVOCCHead2D(4, heights=4, classes=3)
    last = head.predicter[-1]
    nn.init.zeros_(last.get_parameter("weight"))
    nn.init.zeros_(last.get_parameter("bias"))
    last.get_parameter("bias").data[height * 3 + label] = 1.0
    bev = torch.randn(1, 4, 5, 7)
    logits = head(bev)
    assert logits.shape == (7, 5, 4, 3)
    assert (logits[:, :, height].argmax(-1) == label).all()
    labels = OccupancyHead(head, labels=True)(bev)
    assert labels.shape == (7, 5, 4)
    assert (labels[:, :, height] == label).all()
    assert (labels.sum((0, 1))[[z for z in range(4) if z != height]] == 0).all()


def test_q13_rows_of_the_map_are_y_and_the_output_is_x_y_z() -> None:
    head = BEVOCCHead2D(1, heights=1, classes=2)
    fill(head.final_conv, 0.0, 0.0)
    head.final_conv.conv.weight.data[0, 0, 1, 1] = 1.0  # pass the map through
    nn.init.constant_(head.predicter[0].get_parameter("weight"), 1.0)
    nn.init.zeros_(head.predicter[0].get_parameter("bias"))
    last = head.predicter[-1]
    last.get_parameter("weight").data[:] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    last.get_parameter("bias").data[:] = torch.tensor([3.0, 0.0])
    bev = torch.zeros(1, 1, 5, 7)
    bev[0, 0, 2, 6] = 9.0  # y = 2, x = 6
    for found in (head(bev).argmax(-1), OccupancyHead(head, labels=True)(bev)):
        assert found.nonzero().tolist() == [[6, 2, 0]]


def test_q16_no_operator_scatters(mini_export: ExportResult, rig_export: ExportResult) -> None:
    for result in (mini_export, rig_export):
        operators = {node.op_type for node in result.model.proto.graph.node}
        assert not any("Scatter" in name for name in operators)
