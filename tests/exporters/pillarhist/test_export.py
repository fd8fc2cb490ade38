"""The model file: its boxes are the trained network's, whatever the order of the points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from exporters import ExportResult, ModelFile, UserError, export
from exporters.modelfile import WeightsSource
from exporters.pillarhist import prepare
from exporters.pillarhist.agreement import compare, compare_rows
from exporters.pillarhist.config import CONFIGS, KITTI, NUSCENES, Config, HardPillars
from exporters.pillarhist.describe import describe
from exporters.pillarhist.encoders import make_encoder
from exporters.pillarhist.exported_encoders import SortedPillars, exported_encoder
from exporters.pillarhist.exporter import build_network, traced
from exporters.pillarhist.inference import InferenceModel
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.random_weights import generated_points
from exporters.pillarhist.weights import find_source
from tests.exporters.pillarhist import clouds

Arrays = Any


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export("pillarhist-mini", tmp_path_factory.mktemp("mini") / "m.onnx", weights="random")


@pytest.fixture(scope="module")
def session(mini: ExportResult) -> ort.InferenceSession:
    return ort.InferenceSession(str(mini.model.path))


def run(session: ort.InferenceSession, points: Arrays) -> Arrays:
    return session.run(None, {"points": points})[0]


def test_the_file_says_what_it_takes_and_gives(mini: ExportResult) -> None:
    spec = ModelFile(mini.model.path).require_spec()
    assert spec.task == "detection"
    assert spec.input("points").details["columns"] == ["x", "y", "z", "intensity"]
    assert spec.output("boxes").shape == (100, 9)
    assert spec.output("boxes").details["columns"][-2:] == ["score", "class"]
    assert "random weights" in mini.report["weights"]
    assert mini.report["agreement"]["boxes"] > 10
    assert mini.report["agreement"]["exceptions"] == 0


def test_operators_are_standard_or_the_files_own(mini: ExportResult) -> None:
    proto = mini.model.proto
    foreign = {node.op_type for node in proto.graph.node if node.domain}
    assert foreign == {"PillarHistogram"}
    assert {f.name for f in proto.functions} == {"PillarHistogram", "PillarHistogramSorted"}
    adding = [n for n in proto.functions[0].node if any(a.name == "reduction" for a in n.attribute)]
    assert [node.op_type for node in adding] == ["ScatterElements"] * 2
    onnx.checker.check_model(proto)
    assert mini.model.size_bytes < 2_000_000  # no grid of zeros is stored


def test_the_order_of_points_does_not_matter(session: ort.InferenceSession) -> None:
    config = CONFIGS["pillarhist-mini"]
    points = generated_points(config, 5)
    shuffled = np.random.default_rng(0).permutation(points)
    np.testing.assert_array_equal(run(session, points), run(session, shuffled))


def test_rows_are_sorted_and_padded(session: ort.InferenceSession) -> None:
    rows = run(session, generated_points(CONFIGS["pillarhist-mini"], 5))
    there = rows[:, -1] >= 0
    assert 0 < there.sum() < len(rows)
    assert (np.diff(rows[:, -2]) <= 0).all()
    assert (rows[there, -2] >= 0.1).all()
    assert (rows[~there, :-1] == 0).all()


def test_bad_points_change_nothing(session: ort.InferenceSession) -> None:
    config = CONFIGS["pillarhist-mini"]
    points = clouds.padded(clouds.made(config, 1, 9000), config.rows, 4)
    bad = points.copy()
    bad[9000, 0], bad[9001], bad[9002, 2] = np.nan, np.inf, -np.inf
    bad[9003] = (10, 0, -1, np.nan)
    np.testing.assert_array_equal(run(session, points), run(session, bad))


def test_an_empty_cloud_gives_no_nan(session: ort.InferenceSession) -> None:
    config = CONFIGS["pillarhist-mini"]
    rows = run(session, np.full((config.rows, 4), -10_000.0, np.float32))
    assert np.isfinite(rows).all()


def test_the_same_inputs_give_the_same_bytes(mini: ExportResult, tmp_path: Path) -> None:
    again = export("pillarhist-mini", tmp_path / "again.onnx", weights="random")
    assert again.model.sha256 == mini.model.sha256


@pytest.mark.parametrize(
    "options",
    [
        {"count_mode": "raw", "xy_mode": "metre", "proj": "linear"},
        {"nms": "peak", "count_mode": "log1p"},
        {"nms": "none", "boxes": 50},
    ],
    ids=str,
)
def test_every_option_agrees_with_pytorch(options: dict[str, Any], tmp_path: Path) -> None:
    made = export("pillarhist-mini", tmp_path / "m.onnx", weights="random", bins=4, **options)
    assert made.report["agreement"]["holds"]
    assert made.model.require_spec().geometry["network"]["encoder"]["bins"] == 4


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--bins means nothing to pointpillars-mini"):
        export("pointpillars-mini", tmp_path / "m.onnx", bins=8)
    with pytest.raises(UserError, match="--max-points means nothing to pillarhist-mini"):
        export("pillarhist-mini", tmp_path / "m.onnx", max_points=8)
    with pytest.raises(UserError, match="--max-pillars 0"):
        export("pillarhist-mini", tmp_path / "m.onnx", max_pillars=0)
    with pytest.raises(UserError, match="--nms peak: pointpillars-kitti has anchors"):
        export("pointpillars-kitti", tmp_path / "m.onnx", nms="peak")
    with pytest.raises(UserError, match=r"--nms is 'rotate'.*Did you mean 'rotated'"):
        export("pillarhist-mini", tmp_path / "m.onnx", nms="rotate")
    with pytest.raises(UserError, match=r"unknown export option 'bin'.*Did you mean 'bins'"):
        export("pillarhist-mini", tmp_path / "m.onnx", bin=8)
    with pytest.raises(UserError, match="is not three ranges"):
        export("pillarhist-mini", tmp_path / "m.onnx", grid="0:1:2")


@pytest.mark.parametrize("cap", [40_000, 700])
def test_pillars_in_the_graph_are_openpcdets(edgeport_data: Path, cap: int) -> None:
    """On real scans, also where there are more pillars than room (upstream keeps the first)."""
    from exporters.pillarhist import host

    config = replace(KITTI, encoder=HardPillars(pillars=cap), rows=20_480)
    module = exported_encoder(make_encoder(config).eval())
    assert isinstance(module, SortedPillars)
    graph = traced(_Voxels(module), config, "voxels")
    session = ort.InferenceSession(graph.SerializeToString())
    for points in clouds.kitti(edgeport_data)[:3]:
        voxels = run(session, clouds.padded(points, config.rows, 4))
        expected, counts, places = host.voxelize(points, config.grid, most_pillars=cap)
        found = len(expected)
        np.testing.assert_array_equal(voxels[:found, :-1].reshape(expected.shape), expected)
        np.testing.assert_array_equal(voxels[:found, -1], counts * 1e6 + places)
        assert not voxels[found:].any()


class _Voxels(torch.nn.Module):
    """Pillars as one table: their points, then count and place as one number."""

    def __init__(self, encoder: SortedPillars) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        voxels, counts, places = self.encoder.voxelize(points)
        both = (counts * 1_000_000 + places).double()[:, None]
        return torch.cat([voxels.flatten(1).double(), both], dim=1)


def real_frames(data: Path, config: Config) -> Iterator[Arrays]:
    """KITTI's, and for the miniatures nuScenes' sweeps too, whose intensities reach 255."""
    scans = clouds.kitti(data)
    if config.head == CONFIGS["pillarhist-mini"].head:
        scale = np.array([1, 1, 1, 1 / 255], np.float32)
        scans += [sweep[:, :4] * scale for sweep in clouds.nuscenes(data)]
    for points in scans:
        yield {"points": clouds.padded(points, config.rows, len(config.columns))}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["pointpillars-kitti", "pillarhist-mini", "pointpillars-mini"])
def test_boxes_of_real_frames_are_pytorchs(edgeport_data: Path, variant: str) -> None:
    """Anchors with random weights, heat maps with trained ones.

    A heat map of random weights has boxes of any size: a millimetre is below float32 there.
    """
    config = CONFIGS[variant]
    network, _ = build_network(find_source(variant, ExportOptions()))
    graph = traced(InferenceModel(network), config)
    agreement = compare(network, graph, real_frames(edgeport_data, config), "rotated")
    assert agreement.boxes > 20
    # random weights: two boxes in a thousand overlap by just the limit; sums differ by threads
    allowed = 0 if "mini" in variant else agreement.boxes // 200
    assert agreement.exceptions <= allowed, str(agreement)
    assert agreement.max_difference <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", ["pillarhist-centerpoint-nuscenes", "centerpoint-pillar-nuscenes"]
)
def test_maps_of_nuscenes_sweeps_are_pytorchs(edgeport_data: Path, variant: str) -> None:
    """Weights are random; sums of floats differ by their order, histograms do not."""
    config = replace(CONFIGS[variant], rows=40_960)
    encoder = PillarDetector(config).eval().vfe
    graph = traced(exported_encoder(encoder), config, "canvas")
    session = ort.InferenceSession(graph.SerializeToString())
    for sweep in clouds.nuscenes(edgeport_data):
        points = clouds.padded(sweep, config.rows, 5)
        with torch.no_grad():
            expected = encoder(torch.from_numpy(points)).numpy()
        found = run(session, points)
        assert np.count_nonzero(expected) > 100_000
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        if "hist" in variant:
            shuffled = np.random.default_rng(0).permutation(points)
            np.testing.assert_array_equal(run(session, shuffled), found)


def test_nuscenes_leaves_the_vehicle_out() -> None:
    config = replace(NUSCENES, encoder=CONFIGS["pillarhist-mini"].encoder, ego_m=1.0, rows=64)
    encoder = make_encoder(config).eval()
    points = clouds.padded(np.array([[0.5, -0.9, 0, 9, 0], [0.5, 1.1, 0, 9, 0]], np.float32), 64, 5)
    _, places = encoder.encode(torch.from_numpy(points))
    assert places.tolist() == [(256 + 5) * 512 + 256 + 2]


def test_clouds_are_checked_before_they_are_fed(mini: ExportResult) -> None:
    spec = mini.model.require_spec()
    config = CONFIGS["pillarhist-mini"]
    cloud = clouds.made(config, 0, 500)
    assert prepare(cloud, spec)["points"].shape == (config.rows, 4)
    assert (prepare(cloud[:0], spec)["points"] == -10_000).all()
    with pytest.raises(UserError, match=r"points have shape \[500, 3\], the model takes \[n, 4\]"):
        prepare(cloud[:, :3], spec)
    bad = cloud.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UserError, match="1 of 500 points have NaN or infinite values"):
        prepare(bad, spec)
    loud = cloud * np.array([1, 1, 1, 255], np.float32)
    with pytest.raises(UserError, match=r"intensities reach .* the model takes 0 to 1"):
        prepare(loud, spec)
    many = np.tile(cloud, (100, 1))
    with pytest.raises(UserError, match=r"points lie in the grid, the model takes 24576.*--points"):
        prepare(many, spec)


def test_clouds_of_more_pillars_than_rows_are_refused() -> None:
    config = CONFIGS["pillarhist-mini"]
    config = replace(config, encoder=replace(config.encoder, pillars=50))
    spec = describe("pillarhist-mini", config, ExportOptions(), WeightsSource("random", seed=0))
    cloud = clouds.made(config, 0, 500)
    with pytest.raises(
        UserError, match=r"in \d+ pillars, the model has rows for 50.*--max-pillars"
    ):
        prepare(cloud, spec)
    crowded = cloud[:100].copy()
    crowded[:, :2] = cloud[200, :2]
    prepare(crowded, spec)


def test_differences_are_found() -> None:
    # one box and an empty row: where all rows are boxes, the last ones may be cut differently
    row = np.array([[1, 2, 3, 4, 2, 1, 3.141, 0.9, 0], [0] * 8 + [-1]], np.float32)
    other = row.copy()
    other[0, 6] = -3.1418
    assert compare_rows(row, other, 0.1).exceptions == 0  # the same angle
    other[0, 0] += 0.01
    assert compare_rows(row, other, 0.1).exceptions == 2  # neither has its equal
    low = row.copy()
    low[0, 7] = 0.10005
    assert compare_rows(low, row[1:], 0.1).ties == 1
